"""Small faults put into the margin, waterfall and ADL kernels, one at a time: does any test notice?"""
