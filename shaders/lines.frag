#version 330
// A line with smooth sides. A line thinner than a pixel is drawn a pixel wide and fainter instead.

in vec4 colour;
in float across_px;
flat in float half_width_px;

out vec4 shown;

void main() {
    float half_px = max(half_width_px, 0.5);
    float cover = clamp(half_px + 0.5 - abs(across_px), 0.0, 1.0) * min(1.0, half_width_px / 0.5);
    shown = vec4(colour.rgb, colour.a * cover);
}
