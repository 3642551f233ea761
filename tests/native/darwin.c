/* What the library calls on macOS and Linux' libc lacks: errno's place, a kqueue for the end of one process, and what
   there is to know of a socket. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define EVFILT_PROC (-5)
#define EV_ADD 0x0001
#define NOTE_EXIT 0x80000000u

#define PROC_PIDFDSOCKETINFO 3
#define SOCKET_FDINFO_SIZE 792

/* As in macOS' sys/proc_info.h. */
struct proc_fileinfo {
  uint32_t fi_openflags, fi_status;
  int64_t fi_offset;
  int32_t fi_type;
  uint32_t fi_guardflags;
};
struct vinfo_stat {
  uint32_t vst_dev;
  uint16_t vst_mode, vst_nlink;
  uint64_t vst_ino;
  uint32_t vst_uid, vst_gid;
  int64_t vst_times[8], vst_size, vst_blocks;
  int32_t vst_blksize;
  uint32_t vst_flags, vst_gen, vst_rdev;
  int64_t vst_qspare[2];
};
struct socket_fdinfo {
  struct proc_fileinfo pfi;
  struct vinfo_stat soi_stat;
  uint64_t soi_so, soi_pcb;
  int soi_type, soi_protocol, soi_family;
  short soi_options;
};

/* As in macOS' sys/event.h. */
struct kevent {
  uintptr_t ident;
  int16_t filter;
  uint16_t flags;
  uint32_t fflags;
  intptr_t data;
  void *udata;
};

EXPORT int *__error(void) {
  return &errno;
}

EXPORT int proc_pidfdinfo(int pid, int fd, int flavor, void *buffer, int buffersize) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (pid != getpid() || flavor != PROC_PIDFDSOCKETINFO || buffersize < SOCKET_FDINFO_SIZE) {
    errno = EINVAL;
    return 0;
  }
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == -1) return 0;
  memset(buffer, 0, SOCKET_FDINFO_SIZE);
  /* The numbers of options are Linux' everywhere else, too. */
  ((struct socket_fdinfo *)buffer)->soi_options = listens ? SO_ACCEPTCONN : 0;
  return SOCKET_FDINFO_SIZE;
}

EXPORT int kqueue(void) {
  return open("/dev/null", O_RDONLY);
}

/* The queue becomes a descriptor of the process that the one change is about. */
static int watch(int kq, const struct kevent *change) {
  if (change->filter != EVFILT_PROC || change->flags != EV_ADD || change->fflags != NOTE_EXIT) {
    errno = EINVAL;
    return -1;
  }
  int pidfd = syscall(SYS_pidfd_open, (pid_t)change->ident, 0);
  if (pidfd == -1) return -1;
  int result = dup3(pidfd, kq, O_CLOEXEC);
  close(pidfd);
  return result == -1 ? -1 : 0;
}

EXPORT int kevent(int kq, const struct kevent *changelist, int nchanges, struct kevent *eventlist, int nevents,
                  const struct timespec *timeout) {
  if (nchanges == 1) return watch(kq, changelist);
  struct pollfd fd = {kq, POLLIN, 0};
  int ready = ppoll(&fd, 1, timeout, NULL);
  if (ready > 0 && nevents > 0) {
    eventlist->filter = EVFILT_PROC;
    eventlist->fflags = NOTE_EXIT;
  }
  return ready;
}
#endif
