#version 330
// Shapes of marks: a ring, a glow that fades outwards, a diamond with a dark edge.

uniform vec3 edge_colour;

flat in vec4 colour;
flat in float diameter_px;
flat in int shape;

out vec4 shown;

void main() {
    vec2 place = gl_PointCoord * 2.0 - 1.0;
    float pixel = 2.0 / diameter_px;
    float radius = length(place);
    if (shape == @RING@) {
        float thickness = @RING_PX@ * pixel;
        float cover = smoothstep(1.0, 1.0 - pixel, radius) * smoothstep(1.0 - thickness - pixel, 1.0 - thickness, radius);
        shown = vec4(colour.rgb, colour.a * cover);
    } else if (shape == @GLOW@) {
        float fade = clamp(1.0 - radius, 0.0, 1.0);
        shown = vec4(colour.rgb, colour.a * fade * fade);
    } else {
        float reach = abs(place.x) + abs(place.y);
        float cover = smoothstep(1.0, 1.0 - 1.5 * pixel, reach);
        float edge = smoothstep(1.0 - 5.0 * pixel, 1.0 - 3.0 * pixel, reach);
        shown = vec4(mix(colour.rgb, edge_colour, edge), colour.a * cover);
    }
    if (shown.a <= 0.0) discard;
}
