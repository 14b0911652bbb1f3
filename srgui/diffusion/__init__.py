"""Restorers on Stable Diffusion. The only room that knows diffusers and transformers, which are imported when they are used."""
