#version 330
// One passage as a point. In: world position (the scene lies within radius 1), colour, relative size.
// Out: the sprite's colour already mixed with the fog, its size in pixels, and the row for picking.

uniform mat4 view;
uniform mat4 projection;
uniform float size_px;         // of a point at the camera's target
uniform float target_depth;    // from the eye to the target, world units; 0 makes every point as large as at the target
uniform vec2 fog_depths;       // fog begins at x and is fullest at y, world units from the eye
uniform float fog_most;        // share of the background in the farthest point
uniform vec3 background;

in vec3 in_position;
in vec4 in_colour;
in float in_size;

flat out vec4 colour;
flat out float diameter_px;
flat out uint row;

void main() {
    vec4 seen = view * vec4(in_position, 1.0);
    gl_Position = projection * seen;
    float depth = max(-seen.z, 1e-4);
    float nearness = target_depth > 0.0 ? target_depth / depth : 1.0;
    diameter_px = clamp(size_px * in_size * nearness, @SMALLEST_PX@, @LARGEST_PX@);
    gl_PointSize = diameter_px;
    float fog = fog_most * smoothstep(fog_depths.x, fog_depths.y, depth);
    colour = vec4(mix(in_colour.rgb, background, fog), in_colour.a);
    row = uint(gl_VertexID);
}
