#version 330
// A straight line as a rectangle of its width in pixels: four vertices an instance, one instance a line.
// Core profiles draw GL lines one pixel wide at most, and never smooth. Ends in world units.

uniform mat4 view;
uniform mat4 projection;
uniform vec2 viewport_px;
uniform float scale;           // pixels in a unit of width
uniform float near;            // distance of the near plane, world units

in vec3 in_start;
in vec3 in_end;
in vec4 in_start_colour;
in vec4 in_end_colour;
in float in_width;

out vec4 colour;
out float across_px;           // signed distance from the line's middle
flat out float half_width_px;

void main() {
    vec4 start = view * vec4(in_start, 1.0);
    vec4 end = view * vec4(in_end, 1.0);
    // An end behind the eye is moved along the line to the near plane, or the division would mirror it.
    if (start.z > -near && end.z < -near) start = mix(start, end, (-near - start.z) / (end.z - start.z));
    if (end.z > -near && start.z < -near) end = mix(end, start, (-near - end.z) / (start.z - end.z));
    vec4 from = projection * start;
    vec4 to = projection * end;
    vec2 along = (to.xy / to.w - from.xy / from.w) * viewport_px;
    along = length(along) > 1e-6 ? normalize(along) : vec2(1.0, 0.0);
    bool is_end = gl_VertexID > 1;
    float side = (gl_VertexID & 1) == 0 ? -1.0 : 1.0;
    half_width_px = 0.5 * in_width * scale;
    across_px = side * (half_width_px + 1.0);
    vec4 place = is_end ? to : from;
    place.xy += vec2(-along.y, along.x) * across_px * 2.0 / viewport_px * place.w;
    gl_Position = place;
    colour = is_end ? in_end_colour : in_start_colour;
}
