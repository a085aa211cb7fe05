"""One module per table or figure, each with NAME and run(study)."""
