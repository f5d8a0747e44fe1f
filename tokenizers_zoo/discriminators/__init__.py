"""Discriminators: media -> logits and feature maps of one or several sub-discriminators.

All return `Judgement`s, one a sub-discriminator; the losses are in `losses.adversarial`.
"""
