"""What is measured, and by which definition?"""
