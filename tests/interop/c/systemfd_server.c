/* A server of systemfd's protocol, from its description alone: one client after the other, until it is ended. It offers
 * two listeners, the second of them non-blocking, and prints the variables of its protocol and the listeners' ports. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char secret[] = "0ba6dd71-5f3f-4c35-9f0c-3f8e3b6d7a10";

static int fail(const char *what) {
    printf("%s failed with %d\n", what, WSAGetLastError());
    return 1;
}

static SOCKET listen_on(u_short *port) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int size = sizeof address;
    SOCKET s = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    if (bind(s, (struct sockaddr *)&address, size) != 0 || listen(s, 16) != 0) exit(fail("listen"));
    getsockname(s, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return s;
}

static void serve(SOCKET client, const SOCKET *shared, int count) {
    char request[128];
    int filled = 0;
    for (int n; (n = recv(client, request + filled, (int)sizeof request - 1 - filled, 0)) > 0;) filled += n;
    request[filled] = '\0';
    char *bar = strchr(request, '|');
    if (bar == NULL || (size_t)(bar - request) != strlen(secret) || strncmp(request, secret, strlen(secret)) != 0) {
        printf("refused\n");
        return;
    }
    DWORD process = strtoul(bar + 1, NULL, 10);
    for (int i = 0; i < count; i++) {
        WSAPROTOCOL_INFOW info;
        if (WSADuplicateSocketW(shared[i], process, &info) != 0) {
            fail("WSADuplicateSocketW");
            return;
        }
        send(client, (const char *)&info, sizeof info, 0);
    }
    printf("served %lu\n", process);
}

int main(void) {
    WSADATA data;
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    _setmode(_fileno(stdout), _O_BINARY);

    u_short port, first, second;
    SOCKET server = listen_on(&port);
    SOCKET shared[] = {listen_on(&first), listen_on(&second)};
    u_long on = 1;
    if (ioctlsocket(shared[1], FIONBIO, &on) != 0) return fail("ioctlsocket");
    printf("127.0.0.1:%d %s %d %d\n", port, secret, first, second);
    for (;;) {
        SOCKET client = accept(server, NULL, NULL);
        if (client == INVALID_SOCKET) return fail("accept");
        serve(client, shared, 2);
        closesocket(client);
    }
}
