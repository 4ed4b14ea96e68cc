#version 330
// A piece of text as a rectangle of the picture. In, one instance a text: its corners in pixels from the top left, its place
// in the atlas in texels, its colour. Corners are whole pixels, so that letters stay as sharp as they were drawn.

uniform vec2 viewport_px;
uniform vec2 atlas_texels;

in vec4 in_corners;            // left, top, right, bottom
in vec4 in_texels;
in vec4 in_colour;

out vec2 texel;
flat out vec4 colour;

void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    vec2 place_px = mix(in_corners.xy, in_corners.zw, corner);
    gl_Position = vec4(place_px.x / viewport_px.x * 2.0 - 1.0, 1.0 - place_px.y / viewport_px.y * 2.0, 0.0, 1.0);
    texel = mix(in_texels.xy, in_texels.zw, corner) / atlas_texels;
    colour = in_colour;
}
