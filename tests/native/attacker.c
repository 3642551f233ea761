/* A process that attacks a rendezvous on Linux, as another user where that can be had. It does what it is told over a
   socket pair: see tests/kit/attacker.ts. Between fork and exit it calls nothing that allocates. */
#ifdef __linux__
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { CONNECT = 1, CONNECT_BY_STUB, SEND, SEND_LINGERING, RECEIVE, FLOOD, BURN, CONNECT_MORE, FLOOD_OWN, SEARCH };

struct command {
  int32_t code, size;
  char bytes[256];
};

static int held = -1;

static int open_connection_with(const char *path, int flags) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '@' ? 0 : 1);
  if (path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_STREAM | flags, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, size) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

static int open_connection(const char *path) {
  return open_connection_with(path, 0);
}

/* Shares the descriptors of its parent, and leaves it the connection. */
static int stub(void *path) {
  held = open_connection(path);
  syscall(SYS_exit, 0);
  return 0;
}

static int connect_by_stub(char *path) {
  static char stack[65536] __attribute__((aligned(16)));
  int pid = clone(stub, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, path);
  if (pid < 0) return -errno;
  if (waitpid(pid, NULL, 0) < 0) return -errno;
  return held < 0 ? held : pid;
}

/* A TCP socket whose last close takes the time it lingers: the other end reads nothing of what was sent. */
static int lingering_socket(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0) return -errno;
  getsockname(listener, (struct sockaddr *)&address, &size);
  if (connect(s, (struct sockaddr *)&address, size) < 0 || accept(listener, NULL, NULL) < 0) return -errno;
  static char bytes[65536];
  while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
  }
  struct linger linger = {1, 8};
  setsockopt(s, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  return s;
}

static int send_lingering(const void *bytes, size_t size) {
  int s = lingering_socket();
  if (s < 0) return s;
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec iovec = {(void *)bytes, size};
  struct msghdr message = {.msg_iov = &iovec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &s, sizeof s);
  int result = sendmsg(held, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
  /* If it was sent, the close at the other side is the last; otherwise nothing lingers here either. */
  struct linger none = {1, 0};
  if (result < 0) setsockopt(s, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  close(s);
  return result;
}

/* How many descriptors come, within a second. */
static int receive(void) {
  char byte, control[CMSG_SPACE(sizeof(int) * 8)];
  struct iovec iovec = {&byte, 1};
  struct msghdr message = {.msg_iov = &iovec, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct pollfd readable = {held, POLLIN, 0};
  if (poll(&readable, 1, 1000) <= 0 || recvmsg(held, &message, MSG_DONTWAIT) <= 0) return 0;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  return header == NULL ? 0 : (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Connects, sends 16 claims and closes. Returns whether it did. */
static int knock(const char *path) {
  static char claims[16 * 24];
  /* Where there is no room it tries again at once, so that it uses a processor all the time. */
  int fd = open_connection_with(path, SOCK_NONBLOCK);
  if (fd < 0) return 0;
  send(fd, claims, sizeof claims, MSG_DONTWAIT | MSG_NOSIGNAL);
  close(fd);
  return 1;
}

/* Again and again. Returns how often. */
static int flood(const char *path, int milliseconds) {
  int count = 0;
  for (int64_t end = now() + milliseconds; now() < end;) count += knock(path);
  return count;
}

/* The same to a socket of its own, which it accepts on itself. */
static int flood_own(int milliseconds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t size = sizeof address;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  /* An address that the system chooses. */
  if (bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) < 0 || listen(listener, 512) < 0 ||
      getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
    return -errno;
  }
  char path[sizeof address.sun_path + 1] = {0};
  memcpy(path, address.sun_path, size - offsetof(struct sockaddr_un, sun_path));
  path[0] = '@';
  int count = 0;
  for (int64_t end = now() + milliseconds; now() < end;) {
    count += knock(path);
    close(accept(listener, NULL, NULL));
  }
  close(listener);
  return count;
}

/* Looks for the addresses of a directory or a prefix among those of all local sockets, and connects to each. */
static int search(const char *prefix, int milliseconds) {
  static char text[1 << 18];
  int count = 0;
  for (int64_t end = now() + milliseconds; now() < end;) {
    int fd = open("/proc/net/unix", O_RDONLY), length = 0, more;
    if (fd < 0) return -errno;
    while ((more = read(fd, text + length, sizeof text - 1 - length)) > 0) length += more;
    close(fd);
    text[length] = 0;
    for (char *found = strstr(text, prefix); found != NULL; found = strstr(found + 1, prefix)) {
      char path[109] = {0};
      for (int index = 0; index < 108 && found[index] != '\n'; index++) path[index] = found[index];
      count += knock(path);
    }
  }
  return count;
}

static int burn(int milliseconds) {
  for (int64_t end = now() + milliseconds; now() < end;) {
  }
  return 0;
}

static int obey(struct command *command) {
  int milliseconds;
  memcpy(&milliseconds, command->bytes, sizeof milliseconds);
  switch (command->code) {
  case CONNECT:
    if (held >= 0) close(held);
    held = open_connection(command->bytes);
    return held < 0 ? held : 0;
  case CONNECT_MORE:
    held = open_connection(command->bytes);
    return held < 0 ? held : 0;
  case CONNECT_BY_STUB:
    if (held >= 0) close(held);
    return connect_by_stub(command->bytes);
  case SEND:
    return send(held, command->bytes, command->size, MSG_NOSIGNAL) < 0 ? -errno : 0;
  case SEND_LINGERING:
    return send_lingering(command->bytes, command->size);
  case RECEIVE:
    return receive();
  case FLOOD:
    return flood(command->bytes + sizeof milliseconds, milliseconds);
  case FLOOD_OWN:
    return flood_own(milliseconds);
  case SEARCH:
    return search(command->bytes + sizeof milliseconds, milliseconds);
  case BURN:
    return burn(milliseconds);
  }
  return -ENOSYS;
}

static void become(int user) {
  if (user == 0) return;
  if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, user, user, user) < 0 ||
      syscall(SYS_setresuid, user, user, user) < 0) {
    _exit(1);
  }
}

/* Starts an attacker of a user, or of this one for 0. Returns its process id, and where to tell it what to do. */
EXPORT int attacker_start(int user, int32_t *control) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  int pid = fork();
  if (pid < 0) return -errno;
  if (pid > 0) {
    close(ends[1]);
    *control = ends[0];
    int32_t ready;
    return recv(ends[0], &ready, sizeof ready, 0) == sizeof ready ? pid : -EPERM;
  }
  /* Nothing of the tests is left to it. */
  int mine = dup2(ends[1], 0);
  syscall(SYS_close_range, 3, ~0u, 0);
  become(user);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int32_t ready = 0;
  send(mine, &ready, sizeof ready, MSG_NOSIGNAL);
  struct command command;
  for (;;) {
    memset(&command, 0, sizeof command);
    if (recv(mine, &command, sizeof command - 1, 0) <= 0) _exit(0);
    int32_t reply = obey(&command);
    send(mine, &reply, sizeof reply, MSG_NOSIGNAL);
  }
}

EXPORT int attacker_tell(int control, int code, const uint8_t *bytes, int size) {
  struct command command = {.code = code, .size = size};
  if ((size_t)size > sizeof command.bytes) return -EMSGSIZE;
  memcpy(command.bytes, bytes, size);
  return send(control, &command, sizeof command, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

EXPORT int attacker_reply(int control) {
  int32_t reply;
  return recv(control, &reply, sizeof reply, 0) == sizeof reply ? reply : -EPIPE;
}

EXPORT void attacker_end(int control, int pid) {
  close(control);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

/* Starts a process that has this id and does nothing. Needs the right to choose; -EEXIST if another has it. */
EXPORT int start_with_id(int32_t id) {
  uint64_t arguments[11] = {0};
  arguments[4] = SIGCHLD;
  arguments[8] = (uintptr_t)&id;
  arguments[9] = 1;
  int pid = syscall(SYS_clone3, arguments, sizeof arguments);
  if (pid != 0) return pid < 0 ? -errno : pid;
  syscall(SYS_close_range, 0, ~0u, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) pause();
}

EXPORT void end_process(int pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}
#else
typedef int no_attacker;
#endif
