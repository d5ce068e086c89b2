"""What is in the bucket, on the page of its analysis: texts in pieces, screenshots, and all as one zip.

Whatever is there comes from a sample. Nothing is read as a whole: each answer is made of ranges of bounded
size, by S3's range requests.
"""
