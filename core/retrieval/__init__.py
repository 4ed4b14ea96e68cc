"""Finding passages: lexical and dense search over novels kept on disk."""
