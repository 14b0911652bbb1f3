"""The interface. Only this room imports gradio."""
