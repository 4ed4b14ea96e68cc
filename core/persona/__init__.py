"""Characters of a novel: who they are, what they remember, and how they speak."""
