"""Avatars: text in, said by a face that its viewers see elsewhere."""
