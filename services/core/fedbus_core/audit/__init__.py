"""Audit: an exported session as one bundle of bytes, verified and made again without any server."""
