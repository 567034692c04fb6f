"""int8 and fp16 copies of the models, made and measured on this machine."""
