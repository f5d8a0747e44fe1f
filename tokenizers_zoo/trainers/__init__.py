"""Training: one Lightning module for all tokenizers, its data, callbacks, and the command line's training verbs."""
