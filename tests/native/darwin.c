/* What the library calls on macOS and Linux' libc lacks: errno's place, and a kqueue for the end of one process. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define EVFILT_PROC (-5)
#define EV_ADD 0x0001
#define NOTE_EXIT 0x80000000u

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
