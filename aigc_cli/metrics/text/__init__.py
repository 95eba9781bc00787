"""Metrics of texts: what people call BLEU, ROUGE, METEOR and so on, equal to the usual packages."""
