"""Frozen models that guide a tokenizer, by Hugging Face name or local folder. They know tensors, not tokenizers."""
