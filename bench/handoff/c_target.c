/*
 * The C child: opens every WSAPROTOCOL_INFOW that comes on stdin, writes the connection's first byte, closes it, and
 * answers with a byte on stdout. Blobs that come together are answered together. With the argument `channel` it opens and
 * closes only. The first byte it writes says that it is there.
 */
#include <stdio.h>
#include <string.h>
#include <winsock2.h>

#define MOST 64

static void fail(const char *what) {
  fprintf(stderr, "%s failed: %lu, %d\n", what, GetLastError(), WSAGetLastError());
  ExitProcess(1);
}

static void answer(int count) {
  static const char bytes[MOST];
  DWORD written;
  if (!WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), bytes, count, &written, NULL)) fail("WriteFile");
}

int main(int argc, char **argv) {
  static WSAPROTOCOL_INFOW infos[MOST];
  int channel = argc > 1 && strcmp(argv[1], "channel") == 0;
  DWORD got, have = 0;
  WSADATA data;
  if (WSAStartup(MAKEWORD(2, 2), &data) != 0) fail("WSAStartup");
  answer(1);
  while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), (char *)infos + have, sizeof infos - have, &got, NULL) && got > 0) {
    have += got;
    int count = have / sizeof *infos;
    for (int i = 0; i < count; i++) {
      SOCKET s = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &infos[i], 0, WSA_FLAG_OVERLAPPED);
      if (s == INVALID_SOCKET) fail("WSASocketW");
      if (!channel && send(s, "!", 1, 0) != 1) fail("send");
      closesocket(s);
    }
    if (count > 0) answer(count);
    have -= count * sizeof *infos;
    memmove(infos, &infos[count], have);
  }
  return 0;
}
