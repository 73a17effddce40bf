/*
 * A server that takes usage events like Lago and does nothing with them: sink MILLISECONDS
 *
 * It prints its port. Each POST is read to its last byte and answered after so many milliseconds, with an event for
 * each "transaction_id" in its body, as Lago does; a GET tells how much it has taken. One thread, no parsing, no
 * storage: it must be faster than every client, or a benchmark would measure it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 4096
#define LARGEST_REQUEST (2 << 20)
#define MOST_EVENTS 1000

static const char EVENT[] =
    ",{\"lago_id\":\"1a901a90-1a90-1a90-1a90-1a901a901a90\",\"transaction_id\":\"transaction_1234567890\","
    "\"lago_customer_id\":null,\"code\":\"storage\",\"timestamp\":\"2022-04-29T08:59:51.000Z\","
    "\"precise_total_amount_cents\":null,\"properties\":{\"gb\":10},\"lago_subscription_id\":null,"
    "\"external_subscription_id\":\"sub_1234567890\",\"created_at\":\"2022-04-29T08:59:51Z\"}";
static const char OPENING[] = "{\"events\":[", CLOSING[] = "]}", ID[] = "\"transaction_id\"";

typedef struct {
    char *data;         /* what has come of the request */
    size_t have, need;  /* need: length of the whole request; 0 while its head is not there */
    size_t head;
    int gets, events;
    uint64_t turn;      /* tells an answer that is due from one to a connection that was closed meanwhile */
} Connection;

typedef struct {
    int64_t at;
    int fd;
    uint64_t turn;
} Due;

static Connection connections[MOST_CONNECTIONS];
static Due queue[MOST_CONNECTIONS]; /* one latency for all: what comes first is due first */
static size_t first, waiting;
static uint64_t turns, requests, events_taken, most_waiting;
static char *answers; /* EVENT, again and again */
static int epoll;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void end(int fd) {
    connections[fd].turn = 0;
    connections[fd].have = connections[fd].need = 0;
    close(fd);
}

static void send_all(int fd, struct iovec *parts, int count) {
    while (count) {
        ssize_t sent = writev(fd, parts, count);
        if (sent < 0 && errno == EAGAIN) continue; /* the client reads: it is soon done */
        if (sent < 0) return;                      /* closed: the next read tells */
        for (; count && (size_t)sent >= parts->iov_len; parts++, count--) sent -= parts->iov_len;
        if (count) {
            parts->iov_base = (char *)parts->iov_base + sent;
            parts->iov_len -= sent;
        }
    }
}

static void answer(int fd) {
    Connection *c = &connections[fd];
    char head[256], told[128];
    struct iovec parts[4];
    size_t event = sizeof EVENT - 1, body;
    int count = 1;
    if (c->gets) {
        body = snprintf(told, sizeof told, "{\"requests\":%llu,\"events\":%llu,\"most_waiting\":%llu}",
                        (unsigned long long)requests, (unsigned long long)events_taken, (unsigned long long)most_waiting);
        parts[count++] = (struct iovec){told, body};
    } else {
        size_t all = c->events ? c->events * event - 1 : 0; /* without the first comma */
        parts[count++] = (struct iovec){(char *)OPENING, sizeof OPENING - 1};
        parts[count++] = (struct iovec){answers + 1, all};
        parts[count++] = (struct iovec){(char *)CLOSING, sizeof CLOSING - 1};
        body = sizeof OPENING - 1 + all + sizeof CLOSING - 1;
        requests++;
        events_taken += c->events;
    }
    parts[0].iov_base = head;
    parts[0].iov_len = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %zu\r\n"
        "X-Request-Id: 1a901a90-1a90-1a90-1a90-1a901a901a90\r\n\r\n", body);
    c->turn = 0;
    c->have = c->need = 0;
    send_all(fd, parts, count);
}

/* Look at what has come; tells whether the request is whole. */
static int is_whole(Connection *c) {
    if (!c->need) {
        char *end_of_head = memmem(c->data, c->have, "\r\n\r\n", 4);
        if (!end_of_head) return 0;
        c->head = end_of_head - c->data + 4;
        *end_of_head = 0;
        char *length = strcasestr(c->data, "\ncontent-length:");
        c->need = c->head + (length ? strtoul(length + 16, NULL, 10) : 0);
        c->gets = !strncmp(c->data, "GET ", 4);
        *end_of_head = '\r';
        if (c->need > LARGEST_REQUEST) fail("a request is too long");
    }
    return c->have >= c->need;
}

static int count_events(Connection *c) {
    int found = 0;
    char *at = c->data + c->head, *last = c->data + c->need;
    while ((at = memmem(at, last - at, ID, sizeof ID - 1))) found++, at += sizeof ID - 1;
    return found > MOST_EVENTS ? MOST_EVENTS : found;
}

static void receive(int fd, int64_t latency) {
    Connection *c = &connections[fd];
    ssize_t got = read(fd, c->data + c->have, LARGEST_REQUEST - c->have);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(fd);
        return;
    }
    c->have += got;
    if (!is_whole(c)) return;
    c->events = c->gets ? 0 : count_events(c);
    if (!latency || c->gets) {
        answer(fd);
        return;
    }
    c->turn = ++turns;
    queue[(first + waiting++) % MOST_CONNECTIONS] = (Due){now() + latency, fd, c->turn};
    if (waiting > most_waiting) most_waiting = waiting;
}

static void accept_all(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST_CONNECTIONS) fail("too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (!connections[fd].data && !(connections[fd].data = malloc(LARGEST_REQUEST))) fail("malloc");
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted)) fail("epoll_ctl");
    }
}

int main(int count, char **arguments) {
    int64_t latency = count > 1 ? (int64_t)(atof(arguments[1]) * 1e6) : 0;
    answers = malloc(MOST_EVENTS * (sizeof EVENT - 1));
    for (int n = 0; n < MOST_EVENTS; n++) memcpy(answers + n * (sizeof EVENT - 1), EVENT, sizeof EVENT - 1);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        struct timespec wait, *until = NULL;
        if (waiting) {
            int64_t left = queue[first].at - now();
            if (left < 0) left = 0;
            wait = (struct timespec){left / 1000000000, left % 1000000000};
            until = &wait;
        }
        int found = epoll_pwait2(epoll, ready, 256, until, NULL);
        if (found < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int n = 0; n < found; n++) {
            if (ready[n].data.fd == listener) accept_all(listener);
            else receive(ready[n].data.fd, latency);
        }
        for (int64_t time = now(); waiting && queue[first].at <= time; first = (first + 1) % MOST_CONNECTIONS, waiting--)
            if (connections[queue[first].fd].turn == queue[first].turn) answer(queue[first].fd);
    }
}
