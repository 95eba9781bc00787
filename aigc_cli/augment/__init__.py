"""How the things of each modality are varied: one file per modality, found by listing."""
