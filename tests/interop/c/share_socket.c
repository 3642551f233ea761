/* Takes a socket and gives sockets, by raw blobs on stdin and stdout: opens the WSAPROTOCOL_INFOW on stdin, says hello
 * on its connection, then writes the blobs of a connection and of a listener of its own for the process in argv[1], and
 * answers on that connection until it ends. With the argument A the structures are WSAPROTOCOL_INFOA. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ansi;

static int fail(const char *what) {
    fprintf(stderr, "%s failed with %d\n", what, WSAGetLastError());
    exit(1);
}

static SOCKET read_blob(void) {
    const int from = FROM_PROTOCOL_INFO;
    WSAPROTOCOL_INFOA a;
    WSAPROTOCOL_INFOW w;
    if (fread(ansi ? (void *)&a : (void *)&w, ansi ? sizeof a : sizeof w, 1, stdin) != 1) fail("fread");
    SOCKET s = ansi ? WSASocketA(from, from, from, &a, 0, WSA_FLAG_OVERLAPPED)
                    : WSASocketW(from, from, from, &w, 0, WSA_FLAG_OVERLAPPED);
    if (s == INVALID_SOCKET) fail("WSASocket");
    return s;
}

static void write_blob(SOCKET s, DWORD process) {
    WSAPROTOCOL_INFOA a;
    WSAPROTOCOL_INFOW w;
    int result = ansi ? WSADuplicateSocketA(s, process, &a) : WSADuplicateSocketW(s, process, &w);
    if (result != 0) fail("WSADuplicateSocket");
    fwrite(ansi ? (void *)&a : (void *)&w, ansi ? sizeof a : sizeof w, 1, stdout);
    fflush(stdout);
}

int main(int argc, char **argv) {
    WSADATA data;
    if (argc < 2 || WSAStartup(MAKEWORD(2, 2), &data) != 0) return 1;
    DWORD process = strtoul(argv[1], NULL, 10);
    ansi = argc > 2 && strcmp(argv[2], "A") == 0;
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);

    SOCKET given = read_blob();
    static const char hello[] = "hello from C";
    if (send(given, hello, sizeof hello - 1, 0) == SOCKET_ERROR) fail("send");
    closesocket(given);

    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = sizeof address;
    SOCKET listener = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4) != 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    SOCKET own = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    if (connect(own, (struct sockaddr *)&address, size) != 0) fail("connect");
    SOCKET peer = accept(listener, NULL, NULL);
    write_blob(peer, process);
    write_blob(listener, process);
    closesocket(peer);

    char byte;
    while (recv(own, &byte, 1, 0) == 1) {
        byte ^= 0x20;
        send(own, &byte, 1, 0);
    }
    return 0;
}
