"""Text as token ids: tokenizers and the templates of conversations."""
