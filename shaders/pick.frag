#version 330
// Which passage a pixel belongs to: its row + 1, 0 where there is none. Discards exactly what points.frag does.

flat in vec4 colour;
flat in float diameter_px;
flat in uint row;

out uint picked;

void main() {
    if (length(gl_PointCoord * 2.0 - 1.0) > 1.0) discard;
    picked = row + 1u;
}
