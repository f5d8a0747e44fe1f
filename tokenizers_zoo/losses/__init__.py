"""Parts of an objective; they know tensors, not tokenizers."""
