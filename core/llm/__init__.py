"""One LangChain chat model over any backend that makes tokens."""
