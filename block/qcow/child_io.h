/* SPDX-License-Identifier: MIT */
/* How libqcow gets at the image inside the sandbox. */
#pragma once

/* The only name that libqcow can open: QCOW_FD_IMAGE. Absolute, or it asks where it is. */
#define QCOW_IMAGE_NAME "/image"

/* The header names no backing file, whatever the file says. */
void qcow_io_hide_backing(void);
