"""The wire: every body that crosses HTTP, as pydantic classes.

The API uses these classes directly as request bodies and response models, the SDK and the workers parse
answers with the same ones. Nothing else of Keelway is imported here.
"""
