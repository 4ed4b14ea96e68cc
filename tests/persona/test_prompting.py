"""What a model is shown so that it speaks as somebody: labels that hold, turns that stay, and a prompt of one call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.dialogues import Turn
from core.errors import PromptTooLong
from core.llm.backends.scripted import ScriptedBackend
from core.persona.prompting import Persona, fitting_turns, persona_prompt

SU = Persona(
    bot_name="苏梦远",
    bot_info="苏梦远是个歌手，爱喝冷茶。",
    user_name="陆星辰",
    user_info="陆星辰是个导演。",
    sayings=("茶要冷的才好。",),
)
ANN = Persona(bot_name="Ann", bot_info="A miller's daughter.", user_name="Tom", user_info="A sailor.")
TALK = (Turn("user", "你好。"), Turn("assistant", "你来了。"), Turn("user", "唱首歌吧？"))


def model(*, is_chat=True, context_tokens=100_000):
    return ScriptedBackend("", is_chat=is_chat, context_tokens=context_tokens)


def spoken(persona=SU, turns=TALK, *, is_chat=True, context_tokens=100_000, answer_tokens=50, **more):
    shown = model(is_chat=is_chat, context_tokens=context_tokens)
    return persona_prompt(persona, turns, model=shown, answer_tokens=answer_tokens, **more)


def text_of(made):
    return made.prompt if isinstance(made.prompt, str) else "\n".join(turn.content for turn in made.prompt)


def test_a_chat_model_reads_who_the_two_are_and_then_the_turns_word_for_word():
    made = spoken(scenes=("渡口下着雨，苏梦远撑着伞。",), notes=("陆星辰说过：我怕黑。",))
    head, *turns = made.prompt
    assert tuple(turns) == TALK and head.role == "system" and made.stop == () and made.turns_left_out == 0
    for part in (
        *(SU.bot_name, SU.bot_info, SU.user_name, SU.user_info, *SU.sayings),
        *("渡口下着雨，苏梦远撑着伞。", "陆星辰说过：我怕黑。"),
    ):
        assert part in head.content


def test_a_base_model_reads_a_play_that_ends_where_the_character_is_to_speak():
    made = spoken(is_chat=False, scenes=("渡口下着雨，\n苏梦远撑着伞。",), notes=("陆星辰说过：我怕黑。",))
    lines = made.prompt.split("\n")
    assert lines[-4:] == ["陆星辰：你好。", "苏梦远：你来了。", "陆星辰：唱首歌吧？", "苏梦远："]
    for part in (SU.bot_info, SU.user_info, *SU.sayings, "渡口下着雨， 苏梦远撑着伞。", "我怕黑。"):
        assert part in made.prompt
    assert made.stop == ("\n",), "it would go on with what the other says"


def test_an_english_label_leaves_its_space_to_the_model():
    made = spoken(ANN, [Turn("user", "Hello.")], is_chat=False)
    assert made.prompt.endswith("\nTom: Hello.\nAnn:")


@pytest.mark.parametrize("is_chat", [True, False])
def test_an_english_persona_is_told_in_english(is_chat):
    made = text_of(spoken(ANN, [Turn("user", "Hello.")], is_chat=is_chat))
    assert not any("\u3400" <= char <= "\u9fff" for char in made)


@pytest.mark.parametrize("is_chat", [True, False])
def test_the_character_may_speak_first(is_chat):
    turns = [Turn("assistant", "你来了。"), Turn("user", "嗯。")]
    made = spoken(turns=turns, is_chat=is_chat)
    if is_chat:
        assert list(made.prompt[1:]) == turns
    else:
        assert made.prompt.endswith("苏梦远：你来了。\n陆星辰：嗯。\n苏梦远：")


@pytest.mark.parametrize("is_chat", [True, False])
def test_system_turns_are_instructions_and_are_never_left_out(is_chat):
    turns = [Turn("system", "今天是中秋。"), *(Turn("user", "说" * 100) for _ in range(20)), Turn("system", "少说话。")]
    made = spoken(turns=turns, is_chat=is_chat, context_tokens=1500)
    assert made.turns_left_out > 0
    head = made.prompt[0].content if is_chat else made.prompt
    assert "今天是中秋。" in head and "少说话。" in head
    if is_chat:
        assert [turn.role for turn in made.prompt].count("system") == 1


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    context=st.integers(500, 1500),
    answer=st.integers(0, 200),
    is_chat=st.booleans(),
)
def test_no_more_of_the_oldest_turns_are_left_out_than_must_be(sizes, context, answer, is_chat):
    turns = [Turn("assistant" if number % 2 else "user", "话" * size) for number, size in enumerate(sizes)]
    counted = model(is_chat=is_chat)

    def tokens(number):
        return counted.count_tokens(spoken(turns=turns[number:], is_chat=is_chat).prompt)

    fitting = [number for number in range(len(turns)) if tokens(number) + answer <= context]
    try:
        made = spoken(turns=turns, is_chat=is_chat, context_tokens=context, answer_tokens=answer)
    except PromptTooLong:
        assert not fitting
    else:
        assert made.turns_left_out == fitting[0]
        assert made.prompt == spoken(turns=turns[fitting[0] :], is_chat=is_chat).prompt


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_persona_and_a_last_turn_that_do_not_fit_are_refused(is_chat):
    long = Turn("user", "说" * 5000)
    for persona, turns in ((SU, [*TALK, long]), (Persona(bot_name="苏", user_info="远" * 5000), TALK)):
        with pytest.raises(PromptTooLong):
            spoken(persona, turns, is_chat=is_chat, context_tokens=2000)


NAMES = st.text(st.sampled_from("苏陆ab:： \n\r\t\u2028\x85"), max_size=12)
SAID = st.text(st.sampled_from("话ab:：\n\r\u2028\x85苏"), max_size=12)


@given(bot=NAMES, user=NAMES, said=st.lists(SAID, min_size=1, max_size=5), info=SAID, fact=SAID, scene=SAID)
def test_no_name_and_no_turn_can_speak_for_another(bot, user, said, info, fact, scene):
    persona = Persona(bot_name=bot, bot_info=info, user_name=user, user_info=fact)
    turns = [Turn("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(said)]
    made = spoken(persona, turns, is_chat=False, scenes=(scene,))
    lines = made.prompt.splitlines()
    plain = spoken(turns=[Turn(turn.role, "话") for turn in turns], is_chat=False, scenes=("景",)).prompt.splitlines()
    assert len(lines) == len(plain), "a break within a text began a line"
    *_, asks, answers = (
        line.rstrip() for line in spoken(persona, [Turn("user", "")], is_chat=False).prompt.split("\n")
    )
    assert asks != answers
    for label in (asks, answers):
        assert label[-1] in ":：" and label[:-1].strip() and not set(label[:-1]) & set(":：\n\r\u2028\x85")
    for line, turn in zip(lines[-len(said) - 1 : -1], turns, strict=True):
        label = asks if turn.role == "user" else answers
        assert line.startswith(label[:-1]) and line[len(label) - 1] in ":："
        assert line[len(label) :].split() == turn.content.split(), "and says what was said"
    assert lines[-1][:-1] == answers[:-1]


@pytest.mark.parametrize("is_chat", [True, False])
def test_nothing_of_one_call_is_in_the_next(is_chat):
    other = Persona(bot_name="秘甲", bot_info="秘乙", user_name="秘丙", user_info="秘丁", sayings=("秘戊",))
    before = spoken(is_chat=is_chat)
    secret = spoken(
        other, [Turn("system", "秘己"), Turn("user", "秘庚")], is_chat=is_chat, scenes=["秘辛"], notes=["秘壬"]
    )
    assert all(f"秘{mark}" in text_of(secret) for mark in "甲乙丙丁戊己庚辛壬")
    after = spoken(is_chat=is_chat)
    assert after == before and "秘" not in text_of(after)


def test_a_long_persona_is_whole_for_a_chat_model_and_short_for_a_base_model():
    info = "\n".join(f"第{number}件事，苏梦远记得清清楚楚。" for number in range(100))
    persona = Persona(bot_name="苏梦远", bot_info=info)
    assert info in spoken(persona).prompt[0].content
    shown = spoken(persona, is_chat=False).prompt
    assert "第0件事" in shown and "第99件事" not in shown


def test_without_a_persona_the_oldest_turns_are_left_out_and_instructions_stay():
    turns = [Turn("system", "短"), *(Turn("user", "说" * 10) for _ in range(5))]
    made = fitting_turns(turns, model=model(context_tokens=36), answer_tokens=5)
    assert (made.turns_left_out, list(made.prompt)) == (2, [turns[0], *turns[3:]])
    with pytest.raises(PromptTooLong):
        fitting_turns(turns, model=model(context_tokens=15), answer_tokens=5)
