/*
 * The C parent: hands connections to c_target.exe as the documentation of shared sockets shows it, one at a time.
 *
 *     c_source.exe CONTROL_PORT            accept, duplicate, write 628 bytes to the child's stdin, await its byte, close
 *     c_source.exe CONTROL_PORT channel    one connection again and again, 64 in a batch; see channel_source.ts
 */
#include "c_control.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64

static PROCESS_INFORMATION child;
static HANDLE to_child, from_child;

/* Starts the target beside this program. */
static void spawn_target(const char *mode) {
  SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, NULL, TRUE};
  STARTUPINFOA startup = {.cb = sizeof startup};
  char path[MAX_PATH], command[MAX_PATH + 32];
  GetModuleFileNameA(NULL, path, sizeof path);
  strcpy(strrchr(path, '\\') + 1, "c_target.exe");
  snprintf(command, sizeof command, "\"%s\" %s", path, mode);
  if (!CreatePipe(&startup.hStdInput, &to_child, &inheritable, 256 * 1024)) fail("CreatePipe");
  if (!CreatePipe(&from_child, &startup.hStdOutput, &inheritable, 0)) fail("CreatePipe");
  SetHandleInformation(to_child, HANDLE_FLAG_INHERIT, 0);
  SetHandleInformation(from_child, HANDLE_FLAG_INHERIT, 0);
  startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  startup.dwFlags = STARTF_USESTDHANDLES;
  if (!CreateProcessA(path, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &child)) fail("CreateProcess");
  CloseHandle(startup.hStdInput);
  CloseHandle(startup.hStdOutput);
}

static void write_blobs(const WSAPROTOCOL_INFOW *infos, int count) {
  DWORD written, length = count * sizeof *infos;
  if (!WriteFile(to_child, infos, length, &written, NULL) || written != length) fail("WriteFile");
}

static void read_answers(int count) {
  char bytes[BATCH];
  DWORD got;
  for (int left = count; left > 0; left -= got) {
    if (!ReadFile(from_child, bytes, left, &got, NULL) || got == 0) fail("ReadFile");
  }
}

static void duplicate(SOCKET s, DWORD process, WSAPROTOCOL_INFOW *info) {
  if (WSADuplicateSocketW(s, process, info) != 0) fail("WSADuplicateSocketW");
}

/* Answers the benchmark while the main thread sits in accept. */
static DWORD WINAPI report(void *control) {
  char line[64], json[256];
  while (control_line((SOCKET)control, line, sizeof line)) {
    latency_report(json, sizeof json);
    control_say((SOCKET)control, json);
  }
  ExitProcess(0);
}

static void hand_off_all(SOCKET listener) {
  WSAPROTOCOL_INFOW info;
  for (;;) {
    SOCKET s = accept(listener, NULL, NULL);
    if (s == INVALID_SOCKET) fail("accept");
    double start = now_ms();
    duplicate(s, child.dwProcessId, &info);
    write_blobs(&info, 1);
    read_answers(1);
    closesocket(s);
    latency_add(now_ms() - start);
  }
}

/* What a batch of the channel takes, its 64 descriptors made off the clock. */
static double run_batch(SOCKET connection) {
  static WSAPROTOCOL_INFOW infos[BATCH];
  SOCKET copies[BATCH];
  for (int i = 0; i < BATCH; i++) {
    duplicate(connection, GetCurrentProcessId(), &infos[i]);
    copies[i] = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &infos[i], 0, WSA_FLAG_OVERLAPPED);
    if (copies[i] == INVALID_SOCKET) fail("WSASocketW");
  }
  double start = now_ms();
  for (int i = 0; i < BATCH; i++) duplicate(copies[i], child.dwProcessId, &infos[i]);
  write_blobs(infos, BATCH);
  read_answers(BATCH);
  for (int i = 0; i < BATCH; i++) closesocket(copies[i]);
  return now_ms() - start;
}

static void run_channel(SOCKET control, SOCKET connection) {
  char line[64], json[128];
  while (control_line(control, line, sizeof line)) {
    int batches = atoi(line);
    double milliseconds = 0;
    for (int i = 0; i < batches; i++) milliseconds += run_batch(connection);
    snprintf(json, sizeof json, "{\"count\":%d,\"seconds\":%f}", batches * BATCH, milliseconds / 1000);
    control_say(control, json);
  }
}

int main(int argc, char **argv) {
  WSADATA data;
  unsigned short port = 0;
  if (argc < 2) return 2;
  int channel = argc > 2 && strcmp(argv[2], "channel") == 0;
  if (WSAStartup(MAKEWORD(2, 2), &data) != 0) fail("WSAStartup");
  SOCKET listener = loopback_listen(&port);
  spawn_target(channel ? "channel" : "");
  read_answers(1);
  SOCKET client = channel ? loopback_connect(port) : INVALID_SOCKET;
  SOCKET connection = channel ? accept(listener, NULL, NULL) : INVALID_SOCKET;
  SOCKET control = control_open(argv[1], port);
  if (channel) {
    run_channel(control, connection);
    closesocket(client);
  } else {
    CreateThread(NULL, 0, report, (void *)control, 0, NULL);
    hand_off_all(listener);
  }
  return 0;
}
