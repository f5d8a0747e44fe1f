"""Encoders and decoders without a paper's name; the models wire them."""
