"""Moving pictures: read a file, a URL or a camera, follow one person through it, write what was found.

reader    what a source gives: frames with true time stamps; opens the right one of
  decoding  files and URLs, by PyAV
  camera    cameras, by OpenCV
pipeline  reading, following and writing at the same time, in three threads joined by
  channel   bounded queues
writer    H.264 in MP4, by PyAV
tables    JSON lines and CSV, a frame at a time
window    a live picture, where there is a screen

Nothing here needs PyAV except `decoding` and `writer`: a camera works without it.
"""
