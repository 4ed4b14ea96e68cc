#version 330
// A mark around or beside a passage, of one size whatever its distance. In: world position, colour, size in units, shape.

uniform mat4 view;
uniform mat4 projection;
uniform float scale;           // pixels in a unit of size

in vec3 in_position;
in vec4 in_colour;
in float in_size;
in float in_shape;

flat out vec4 colour;
flat out float diameter_px;
flat out int shape;

void main() {
    gl_Position = projection * (view * vec4(in_position, 1.0));
    diameter_px = clamp(in_size * scale, 1.0, @LARGEST_PX@);
    gl_PointSize = diameter_px;
    colour = in_colour;
    shape = int(in_shape + 0.5);
}
