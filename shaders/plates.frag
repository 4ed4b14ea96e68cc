#version 330
// Letters in their colour upon a halo, which keeps them readable over points. Atlas: red is the letter, green letter and halo.

uniform sampler2D atlas;
uniform vec3 halo_colour;

in vec2 texel;
flat in vec4 colour;

out vec4 shown;

void main() {
    vec2 cover = texture(atlas, texel).rg;
    float letter = cover.r;
    float halo = max(cover.g - letter, 0.0) * @HALO_SHARE@;
    float alpha = letter + halo * (1.0 - letter);
    if (alpha <= 0.0) discard;
    shown = vec4(mix(halo_colour, colour.rgb, letter / alpha), alpha * colour.a);
}
