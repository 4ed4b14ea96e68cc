"""LangChain's own standard tests of a chat model: the whole of them over a script, and with a real model behind it.

What the model does not offer (tools, structured output, images) is said by properties, and the suite leaves it out.
"""

import pytest
import torch
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.llm.models import BUILTIN_MODELS, load_chat_model


class TextOnly:
    """Properties of the suite that hold for every backend."""

    chat_model_class = NovelChatModel
    has_tool_calling = False
    has_tool_choice = False
    has_structured_output = False
    supports_model_override = False  # another model is another backend


class Scripted(TextOnly):
    @property
    def chat_model_params(self):
        return {"backend": ScriptedBackend("赵云字子龙。")}


class TestTheChatModel(Scripted, ChatModelUnitTests):
    pass


class TestTheChatModelOverAScript(Scripted, ChatModelIntegrationTests):
    pass


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    if not BUILTIN_MODELS["smollm2-135m"].is_installed():
        pytest.skip(BUILTIN_MODELS["smollm2-135m"].install_command)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # beside other work two threads that wait for each other are slower than one
    yield load_chat_model("builtin:smollm2-135m", cache_dir=tmp_path_factory.mktemp("models"))
    torch.set_num_threads(num_threads)


@pytest.mark.model
@pytest.mark.slow  # minutes on a CPU without bfloat16; the same tests run over a script by default
class TestTheChatModelOverSmolLM(TextOnly, ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def load(self, smollm):
        self.backend = smollm.backend

    @property
    def chat_model_params(self):
        return {"backend": self.backend, "temperature": 0, "max_tokens": 8}
