#version 330
// A round sprite: flat in the middle, darker towards a rim that is smoothed over one pixel.

uniform vec3 rim_colour;

flat in vec4 colour;
flat in float diameter_px;
flat in uint row;

out vec4 shown;

void main() {
    float radius = length(gl_PointCoord * 2.0 - 1.0);
    if (radius > 1.0) discard;
    float cover = 1.0 - smoothstep(1.0 - 2.0 / diameter_px, 1.0, radius);
    float rim = @RIM_SHARE@ * smoothstep(0.6, 1.0, radius);
    shown = vec4(mix(colour.rgb, rim_colour, rim), colour.a * cover);
}
