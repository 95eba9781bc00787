"""`aigc serve`: what `aigc sample` does, over HTTP."""
