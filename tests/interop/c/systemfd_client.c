/* A client of systemfd's protocol, from its description alone. Sends "SECRET|PID", ends its side, reads blobs until the
 * end, opens each, and prints what it is. Says hello on every connection, and on one connection of every listener. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    printf("%s failed with %d\n", what, WSAGetLastError());
    return 1;
}

static void greet(SOCKET s) {
    static const char hello[] = "hello from C";
    send(s, hello, sizeof hello - 1, 0);
    closesocket(s);
}

int main(void) {
    WSADATA data;
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    _setmode(_fileno(stdout), _O_BINARY);

    const char *server = getenv("SYSTEMFD_SOCKET_SERVER");
    const char *secret = getenv("SYSTEMFD_SOCKET_SECRET");
    if (server == NULL || secret == NULL) {
        printf("no server\n");
        return 1;
    }
    const char *colon = strrchr(server, ':');
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((u_short)atoi(colon + 1))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    SOCKET s = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    if (connect(s, (struct sockaddr *)&address, sizeof address) != 0) return fail("connect");
    char request[128];
    int length = snprintf(request, sizeof request, "%s|%lu", secret, GetCurrentProcessId());
    send(s, request, length, 0);
    shutdown(s, SD_SEND);

    static char answer[64 * sizeof(WSAPROTOCOL_INFOW)];
    size_t filled = 0;
    for (int count; (count = recv(s, answer + filled, (int)(sizeof answer - filled), 0)) > 0;) filled += count;
    closesocket(s);
    printf("%u bytes\n", (unsigned)filled);

    for (size_t offset = 0; offset + sizeof(WSAPROTOCOL_INFOW) <= filled; offset += sizeof(WSAPROTOCOL_INFOW)) {
        WSAPROTOCOL_INFOW info;
        memcpy(&info, answer + offset, sizeof info);
        SOCKET opened = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info, 0,
                                   WSA_FLAG_OVERLAPPED);
        if (opened == INVALID_SOCKET) return fail("WSASocketW");
        BOOL listening = FALSE;
        int size = sizeof listening;
        if (getsockopt(opened, SOL_SOCKET, SO_ACCEPTCONN, (char *)&listening, &size) != 0) return fail("getsockopt");
        struct sockaddr_in name;
        size = sizeof name;
        if (getsockname(opened, (struct sockaddr *)&name, &size) != 0) return fail("getsockname");
        printf("%s on port %d\n", listening ? "listener" : "connection", ntohs(name.sin_port));
        if (listening) {
            greet(accept(opened, NULL, NULL));
            closesocket(opened);
        } else {
            greet(opened);
        }
    }
    printf("done\n");
    return 0;
}
