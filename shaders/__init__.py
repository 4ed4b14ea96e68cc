"""GLSL 330 programs of the map; ``viz.programs`` opens them."""
