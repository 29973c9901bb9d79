/* load: a load generator for chat servers. "load --help" says how to use it.
 *
 * One thread and one epoll loop play all clients. A message's text begins with a mark, its sender's
 * index and its number; when it was sent and how many receivers still lack it stands in a table
 * here (struct flight). So every delivery is checked: each receiver must get each sender's messages
 * once and in order, and what is wrong is counted as an error. Answers are read as frames or lines,
 * however they were split.
 *
 * A client writes each message by itself, as somebody does who types, with TCP_NODELAY. Whoever
 * reads a frame of version 1 answers it at once. A client of version 2 confirms what it has read,
 * but not more often than every CONFIRM nanoseconds; what is left then is confirmed later by a
 * slow walk over all clients.
 *
 * Build: gcc -O2 -o load load.c -lssl -lcrypto
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull       /* times are in nanoseconds */
#define CONFIRM (SECOND / 10)      /* version 2: how often what came is confirmed, at most */
#define CONFIRM_WITHIN (SECOND / 7) /* and how long it may be left */
#define SLICES 20                  /* in how many steps that walk goes */
#define STEP (SECOND / 1000)       /* and how long each takes */
#define PLACES 16                  /* for each outstanding message, since one receiver may lag */
#define QUIET (SECOND / 5)         /* the workload begins after such a silence */
#define LEAVE_WITHIN (5 * SECOND)  /* for all to say goodbye */
#define MARK 16                    /* octets: what a text begins with */
#define MAX_TEXT 60000
#define MAX_IRC_TEXT 400           /* a line has 512 octets, with all that the server adds */
#define PER_ADDRESS 10000          /* clients from one source address, where there are more */
#define MAX_SERVERS 16             /* ports, and processes */
#define INPUT (256 * 1024)
#define MAX_REST (128 * 1024)      /* what is not a frame or a line by then won't be one */
#define CHANNEL "#load"
#define ROOM "load@rooms.localhost"

static const char USAGE[] =
    "usage: load DIALECT WORKLOAD ADDRESS PORT[,PORT]... [OPTION VALUE]...\n"
    "\n"
    "Put load on the chat server at an IPv4 address and print one line of JSON. With several\n"
    "ports, the clients are spread evenly over them, and the two of a pair are at different ones.\n"
    "\n"
    "DIALECT\n"
    "  chat    version 2 of the framed protocol: one connection a client\n"
    "  seed    version 1, the original's: two connections a client\n"
    "  irc     any IRC server\n"
    "  xmpp    an XMPP server of the domain localhost that takes PLAIN with any password, with\n"
    "          rooms at rooms.localhost\n"
    "WORKLOAD\n"
    "  fanout  the first clients (--senders) write to everybody: to ALL, or to a channel or room\n"
    "          that all have joined\n"
    "  pairs   the clients are pairs, and in each one writes to the other\n"
    "  mix     every client writes to one other client, in turn, at --rate (2000): most of its\n"
    "          day a server has many clients of whom each says something now and then\n"
    "  idle    all register and stay; the line comes when they have, and the program ends when\n"
    "          its standard input does, or after --seconds\n"
    "  storm   all register, as fast as they can\n"
    "OPTIONS\n"
    "  --clients N      how many (200)\n"
    "  --senders N      of fanout (1)\n"
    "  --outstanding N  messages of one sender that may be on their way (1). Deliveries are\n"
    "                   counted: with 9 receivers, 2 messages are 18 of them, and the next one is\n"
    "                   written when 9 or less are missing\n"
    "  --text N         octets of a text (64)\n"
    "  --warm-up S      seconds of load before anything is counted (1)\n"
    "  --seconds S      seconds that are counted (5)\n"
    "  --rate N         messages a second, of all senders together, evenly spread. A message that\n"
    "                   has to wait, because --outstanding are on their way, has a latency that\n"
    "                   counts from when it was due. Without: as fast as they arrive\n"
    "  --at-once N      clients that connect and register at the same time (8). Where more are\n"
    "                   connecting than the server lets wait, the system tries again only after a\n"
    "                   second, and then after longer ones\n"
    "  --tls            encrypt, and take any certificate\n"
    "  --spin           never sleep: else a server that is slower than the load pays for waking\n"
    "                   it up with every delivery\n"
    "  --patience S     seconds of silence after which the server is given up (10)\n"
    "  --name PREFIX    what the clients are called, before a number (u)\n"
    "\n"
    "A delivery is one message at one receiver; its latency is the time from its writing to its\n"
    "reading. The environment variable SERVER_PID names the process whose processor time is\n"
    "counted, all its threads together; or several, with commas between. Then the sum is given,\n"
    "and the time of each.\n"
    "\n"
    "Exit status: 0; 1 if deliveries were lost, doubled or out of order; 2 if the server refused,\n"
    "closed or fell silent, or the command line is wrong.\n";

enum workload { FANOUT, PAIRS, MIX, IDLE, STORM };
static const char *const WORKLOADS[] = {"fanout", "pairs", "mix", "idle", "storm"};

struct link {
    struct client *client;
    int fd;                        /* -1: there is no connection */
    SSL *ssl;                      /* with --tls */
    bool connected;
    int offers;                    /* XMPP: how often the server has said what it can */
    char *rest;                    /* the beginning of a frame or a line */
    size_t rest_length, rest_room;
    char *out;                     /* what the socket did not take */
    size_t out_length, out_room;
};

struct flight {                    /* a message on its way */
    uint64_t since;
    uint32_t number;
    int missing;                   /* receivers that do not have it yet */
};

struct client {
    int index;
    bool present;                  /* registered, and in the channel */
    struct link links[2];          /* one to send on and one to receive on, if there are two */
    const char *to;                /* senders: whom they write to */
    struct flight *flights;        /* senders: a message is at number % places */
    int missing;                   /* senders: deliveries that are on their way */
    uint32_t next;                 /* senders: the number of the next message */
    int place;                     /* senders: among all of them */
    uint32_t *expected;            /* for each sender it hears: the number that must come next */
    uint64_t newest, confirmed;    /* version 2: of the server's numbers */
    uint64_t confirmed_at;
    int newest_from;               /* the index of its sender */
};

struct dialect {
    const char *name;
    int links;
    void (*greet)(struct link *link);
    char *(*take)(struct link *link, char *begin, char *end);
    void (*say)(struct client *sender, const char *text);
    void (*after)(struct client *client);  /* all is taken that came */
};

static struct {
    const struct dialect *dialect;
    enum workload workload;
    struct sockaddr_in servers[MAX_SERVERS];
    int server_count;
    const char *address, *prefix;
    int clients, senders, outstanding, text, at_once;
    double warm_up, seconds, rate;
    bool spins;
    SSL_CTX *tls;                  /* NULL: plain text */
    uint64_t patience;
    long server_pids[MAX_SERVERS];
    int pid_count;
} settings = {.prefix = "u", .clients = 200, .senders = 1, .outstanding = 1, .text = 64,
              .at_once = 8, .warm_up = 1, .seconds = -1, .patience = 10 * SECOND};

static struct client *clients;
static struct client **senders;
static int audience;               /* receivers of a message */
static uint32_t places;
static char text[MAX_TEXT + 1];
static int epoll, timer;
static uint64_t heard;             /* when anything came the last time */
static uint64_t begin_of_load, turns; /* with a rate: how many messages have become due */
static int started, present, open_links;
static bool sending, measuring, leaving;
static long in_flight, messages, deliveries, misplaced;
static bool input_ended;

/* Time, and the end */

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list values;
    fflush(stdout);
    fprintf(stderr, "load: ");
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(2);
}

static void *grown(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (!memory)
        fail("not enough memory");
    return memory;
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("not enough memory");
    return memory;
}

/* Latencies: a histogram whose steps are 1 % of the value or less */

#define STEPS 256
static uint64_t histogram[64 * STEPS], latencies, slowest;

static void note_latency(uint64_t latency)
{
    int exponent = latency < STEPS ? 0 : 63 - __builtin_clzll(latency) - 7;
    histogram[exponent * STEPS + (latency >> exponent)]++;
    latencies++;
    if (latency > slowest)
        slowest = latency;
}

static double latency_us(double part)
{
    uint64_t rank = (uint64_t)(part * (double)latencies), below = 0;
    for (int i = 0; i < 64 * STEPS; i++) {
        below += histogram[i];
        if (below > rank) {
            double step = (double)(1ull << i / STEPS);
            return ((double)(i % STEPS) * step + (step - 1) / 2) / 1e3;
        }
    }
    return 0;
}

/* Connections */

static void watch(struct link *link, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};
    if (epoll_ctl(epoll, operation, link->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void close_link(struct link *link)
{
    SSL_free(link->ssl);
    link->ssl = NULL;
    close(link->fd);
    link->fd = -1;
    link->out_length = link->rest_length = 0;
    open_links--;
}

/* The connection is gone, which it should be only at the end. */
static void lost(struct link *link, const char *how)
{
    if (!leaving)
        fail("the server %s client %d, %s", how, link->client->index,
             link->client->present ? "which was registered" : "which was not registered yet");
    close_link(link);
}

static void refused(struct client *client, const char *what)
{
    if (!leaving)
        fail("the server refuses client %d: %s", client->index, what);
}

/* What a call of OpenSSL came to, as a call of the system would say it. */
static ssize_t tls_result(struct link *link, int count)
{
    switch (SSL_get_error(link->ssl, count)) {
    case SSL_ERROR_NONE:
        return count;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return -1;
    default:
        ERR_clear_error();
        errno = EPROTO;
        return -1;
    }
}

static ssize_t write_some(struct link *link, const char *data, size_t length)
{
    if (!link->ssl)
        return send(link->fd, data, length, MSG_NOSIGNAL);
    return tls_result(link, SSL_write(link->ssl, data, (int)length));
}

/* With TLS that is a record at most. There is room for a whole one, so that OpenSSL keeps nothing
   of it, which epoll would not know. */
static ssize_t read_some(struct link *link, char *data, size_t room)
{
    if (!link->ssl)
        return recv(link->fd, data, room, 0);
    return tls_result(link, SSL_read(link->ssl, data, (int)room));
}

/* What a link waits for that could not write: in a handshake, that is the peer's answer. */
static uint32_t until_writable(struct link *link)
{
    return link->ssl && SSL_want_read(link->ssl) ? EPOLLIN : EPOLLIN | EPOLLOUT;
}

/* Where a client connects. Neighbours are at different servers, and every second pair writes in the
   other direction. */
static const struct sockaddr_in *server_of(const struct client *client)
{
    int count = settings.server_count;
    return &settings.servers[(client->index + client->index / count) % count];
}

static void open_link(struct link *link)
{
    const struct sockaddr_in *server = server_of(link->client);
    int yes = 1;
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (settings.clients > PER_ADDRESS && ntohl(server->sin_addr.s_addr) >> 24 == 127) {
        /* An address has not ports enough for all; on this machine there are more of them. */
        struct sockaddr_in source = {.sin_family = AF_INET};
        uint32_t further = (uint32_t)(link->client->index / PER_ADDRESS);
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + further);
        setsockopt(link->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(link->fd, (struct sockaddr *)&source, sizeof source) < 0)
            fail("bind: %s", strerror(errno));
    }
    if (connect(link->fd, (const struct sockaddr *)server, sizeof *server) < 0
        && errno != EINPROGRESS)
        fail("%s:%d: %s", settings.address, ntohs(server->sin_port), strerror(errno));
    open_links++;
    link->connected = false;
    watch(link, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void flush_link(struct link *link)
{
    ssize_t count = write_some(link, link->out, link->out_length);
    if (count < 0) {
        if (errno != EAGAIN)
            lost(link, errno == ECONNRESET || errno == EPIPE ? "closed" : strerror(errno));
        return;
    }
    link->out_length -= (size_t)count;
    memmove(link->out, link->out + count, link->out_length);
    watch(link, EPOLL_CTL_MOD, link->out_length ? until_writable(link) : EPOLLIN);
}

static void write_link(struct link *link, const char *data, size_t length)
{
    ssize_t count = 0;
    if (link->fd < 0)
        return;
    if (!link->out_length) {
        count = write_some(link, data, length);
        if (count < 0 && errno != EAGAIN) {
            lost(link, errno == ECONNRESET || errno == EPIPE ? "closed" : strerror(errno));
            return;
        }
        if (count == (ssize_t)length)
            return;
        count = count < 0 ? 0 : count;
        watch(link, EPOLL_CTL_MOD, until_writable(link));
    }
    length -= (size_t)count;
    if (link->out_room < link->out_length + length) {
        link->out_room = 2 * (link->out_length + length);
        link->out = grown(link->out, link->out_room);
    }
    memcpy(link->out + link->out_length, data + count, length);
    link->out_length += length;
}

__attribute__((format(printf, 2, 3)))
static void print_link(struct link *link, const char *format, ...)
{
    static char buffer[MAX_TEXT + 1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(buffer, sizeof buffer, format, values);
    va_end(values);
    if (length < 0 || length >= (int)sizeof buffer)
        fail("what was to be written is too long");
    write_link(link, buffer, (size_t)length);
}

static void read_link(struct link *link)
{
    static char input[MAX_REST + INPUT];
    size_t kept = link->rest_length;
    ssize_t count = read_some(link, input + kept, INPUT);
    if (count <= 0) {
        if (count == 0 || errno != EAGAIN)
            lost(link, count == 0 || errno == ECONNRESET ? "closed" : strerror(errno));
        return;
    }
    heard = now();
    if (kept)
        memcpy(input, link->rest, kept);
    char *position = input, *end = input + kept + count, *next;
    while (position < end && (next = settings.dialect->take(link, position, end)))
        position = next;
    size_t rest = (size_t)(end - position);
    if (link->fd < 0)
        return;
    if (rest > MAX_REST)
        fail("the server writes what has no end");
    if (link->rest_room < rest) {
        link->rest_room = 2 * rest;
        link->rest = grown(link->rest, link->rest_room);
    }
    if (rest)
        memcpy(link->rest, position, rest);
    link->rest_length = rest;
    if (settings.dialect->after)
        settings.dialect->after(link->client);
}

/* The handshake is made by the first writing and reading. */
static void begin_tls(struct link *link)
{
    link->ssl = SSL_new(settings.tls);
    if (!link->ssl || !SSL_set_fd(link->ssl, link->fd))
        fail("not enough memory");
    SSL_set_connect_state(link->ssl);
}

static void ready(struct link *link, uint32_t events)
{
    if (link->fd < 0)
        return;
    if (!link->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
            fail("%s:%d: %s", settings.address, ntohs(server_of(link->client)->sin_port),
                 strerror(error));
        if (!(events & EPOLLOUT))
            return;
        link->connected = true;
        watch(link, EPOLL_CTL_MOD, EPOLLIN);
        if (settings.tls)
            begin_tls(link);
        settings.dialect->greet(link);
    } else if (link->out_length && (events & EPOLLOUT || link->ssl)) {
        flush_link(link);
    }
    if (link->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_link(link);
}

/* Registration */

static void start_clients(void)
{
    while (started < settings.clients && started - present < settings.at_once)
        open_link(&clients[started++].links[0]);
}

static void is_present(struct client *client)
{
    if (client->present)
        return;
    client->present = true;
    present++;
    start_clients();
}

/* Messages */

static void write_hex(char *place, uint32_t value, int digits)
{
    while (digits--) {
        place[digits] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

static bool read_hex(const char *place, int digits, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++) {
        char c = place[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return false;
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

static void send_message(struct client *sender, uint64_t since)
{
    struct flight *flight = &sender->flights[sender->next % places];
    flight->since = since;
    flight->number = sender->next++;
    flight->missing = audience;
    sender->missing += audience;
    in_flight += audience;
    messages++;
    write_hex(text, (uint32_t)sender->index, 7);
    text[7] = ':';
    write_hex(text + 8, flight->number, 8);
    settings.dialect->say(sender, text);
}

/* When message ``number`` of all messages is due, where there is a rate. */
static uint64_t due_time(uint64_t number)
{
    return begin_of_load + (uint64_t)((double)number * (double)SECOND / settings.rate);
}

/* Write as much as ``sender`` may by now. With a rate, the senders have their turns. */
static void go_on(struct client *sender)
{
    int most = (settings.outstanding - 1) * audience;
    while (sending && sender->missing <= most && !sender->flights[sender->next % places].missing) {
        uint64_t time = now(), since = time;
        if (settings.rate)
            since = due_time((uint64_t)sender->next * (uint64_t)settings.senders
                             + (uint64_t)sender->place);
        if (since > time)
            return;
        send_message(sender, since);
    }
}

/* Of mix: to whom a client writes. Each client hears from one other. */
static int partner_of(int index)
{
    int further = settings.clients == 2 ? 1 : settings.clients / 2 + 1;
    return (index + further) % settings.clients;
}

static bool is_for(const struct client *receiver, const struct client *sender)
{
    if (settings.workload == PAIRS)
        return receiver->expected && sender->index == receiver->index - 1;
    if (settings.workload == MIX)
        return receiver->index == partner_of(sender->index);
    return receiver->expected && sender->flights && sender != receiver;
}

static void arrived(struct client *receiver, const char *what, size_t length)
{
    uint32_t from, number;
    if (length != (size_t)settings.text || what[7] != ':' || !read_hex(what, 7, &from)
        || !read_hex(what + 8, 8, &number) || from >= (uint32_t)settings.clients
        || !is_for(receiver, &clients[from])) {
        misplaced++;
        return;
    }
    struct client *sender = &clients[from];
    struct flight *flight = &sender->flights[number % places];
    uint32_t *expected = &receiver->expected[settings.workload == FANOUT ? from : 0];
    if (number != *expected || flight->number != number || !flight->missing) {
        misplaced++;
        return;
    }
    ++*expected;
    receiver->newest_from = sender->index;
    deliveries++;
    if (measuring)
        note_latency(heard > flight->since ? heard - flight->since : 0);
    flight->missing--;
    sender->missing--;
    in_flight--;
    go_on(sender);
}

/* The framed protocol */

struct frame {
    char *verb, *argument, *body;
    size_t length;
    uint64_t message;              /* the header of that name */
};

static bool is_header(const char *line, const char *name, uint64_t *value)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length))
        return false;
    *value = strtoull(line + length, NULL, 10);
    return true;
}

/* Read the frame at ``begin``; return what is behind it, or NULL if it is not all there. */
static char *read_frame(struct frame *frame, char *begin, char *end)
{
    uint64_t length = 0;
    char *head = memmem(begin, (size_t)(end - begin), "\n\n", 2);
    if (!head)
        return NULL;
    char *start = memchr(begin, '\n', (size_t)(head + 1 - begin));
    frame->message = 0;
    for (char *line = start; line < head; line = memchr(line + 1, '\n', (size_t)(head - line)))
        if (!is_header(line + 1, "content-length:", &length))
            is_header(line + 1, "message:", &frame->message);
    frame->body = head + 2;
    frame->length = length;
    if ((uint64_t)(end - frame->body) < length)
        return NULL;
    *start = '\0';
    frame->verb = begin;
    frame->argument = strchr(begin, ' ');
    if (frame->argument)
        *frame->argument++ = '\0';
    else
        frame->argument = start;
    return frame->body + length;
}

static bool is(const struct frame *frame, const char *verb)
{
    return !strcmp(frame->verb, verb);
}

static void say_in_frame(struct client *sender, const char *what)
{
    if (settings.dialect->links == 2)
        print_link(&sender->links[0], "SEND %s\nContent-length: %d\n\n%s", sender->to,
                   settings.text, what);
    else
        print_link(&sender->links[0], "SEND %s\nId: %u\nContent-length: %d\n\n%s", sender->to,
                   sender->next, settings.text, what);
}

/* Confirm what came, if that was not done ``within`` so many nanoseconds. */
static void confirm(struct client *client, uint64_t time, uint64_t within)
{
    if (client->newest <= client->confirmed || time < client->confirmed_at + within)
        return;
    client->confirmed = client->newest;
    client->confirmed_at = time;
    print_link(&client->links[0], "RECEIVED %s%d\nMessage: %llu\n\n", settings.prefix,
               client->newest_from, (unsigned long long)client->confirmed);
}

static void greet_chat(struct link *link)
{
    print_link(link, "REGISTER %s%d\nVersion: 2\n\n", settings.prefix, link->client->index);
}

static char *take_chat(struct link *link, char *begin, char *end)
{
    struct frame frame;
    struct client *client = link->client;
    char *next = read_frame(&frame, begin, end);
    if (!next)
        return NULL;
    if (is(&frame, "FORWARD")) {
        client->newest = frame.message;
        arrived(client, frame.body, frame.length);
    } else if (is(&frame, "REGISTERED")) {
        is_present(client);
    } else if (is(&frame, "PING")) {
        print_link(link, "PONG %s\n\n", frame.argument);
    } else if (is(&frame, "ERROR") || is(&frame, "BYE")) {
        refused(client, *frame.argument ? frame.argument : frame.verb);
    }
    return next;
}

static void after_chat(struct client *client)
{
    confirm(client, heard, CONFIRM);
}

/* What the few have left who did not read since, in turn: a slice of the clients each time. */
static void confirm_rest(uint64_t time)
{
    static int slice;
    for (int i = slice; i < settings.clients; i += SLICES)
        confirm(&clients[i], time, CONFIRM_WITHIN);
    slice = (slice + 1) % SLICES;
}

static void greet_seed(struct link *link)
{
    const char *role = link == &link->client->links[0] ? "TOSEND" : "TORECV";
    print_link(link, "REGISTER %s %s%d\n\n", role, settings.prefix, link->client->index);
}

static char *take_seed(struct link *link, char *begin, char *end)
{
    struct frame frame;
    struct client *client = link->client;
    char *next = read_frame(&frame, begin, end);
    if (!next)
        return NULL;
    if (is(&frame, "FORWARD")) {
        print_link(link, "RECEIVED %s\n\n", frame.argument);
        arrived(client, frame.body, frame.length);
    } else if (is(&frame, "REGISTERED") && link == &client->links[0]) {
        open_link(&client->links[1]);
    } else if (is(&frame, "REGISTERED")) {
        is_present(client);
    } else if (is(&frame, "ERROR")) {
        refused(client, frame.argument);
    }
    return next;
}

/* IRC (RFC 2812) */

static void greet_irc(struct link *link)
{
    print_link(link, "NICK %s%d\r\nUSER load 0 * :load\r\n", settings.prefix, link->client->index);
}

static void say_in_line(struct client *sender, const char *what)
{
    print_link(&sender->links[0], "PRIVMSG %s :%s\r\n", sender->to, what);
}

static void take_numeric(struct link *link, const char *line, int code)
{
    if (code == 1 && settings.workload == FANOUT)
        print_link(link, "JOIN " CHANNEL "\r\n");
    else if (code == 1 || (code == 366 && strstr(line, " " CHANNEL " ")))
        is_present(link->client);  /* welcomed; or has all names of the channel */
    else if (code >= 400 && code < 600 && code != 422)  /* 422: there is no message of the day */
        refused(link->client, line);
}

static char *take_irc(struct link *link, char *begin, char *end)
{
    char *line_end = memchr(begin, '\n', (size_t)(end - begin));
    if (!line_end)
        return NULL;
    char *stop = line_end > begin && line_end[-1] == '\r' ? line_end - 1 : line_end;
    *stop = '\0';
    char *command = begin;
    if (*command == ':') {
        command = strchr(command, ' ');
        command = command ? command + 1 : stop;
    }
    if (!strncmp(command, "PRIVMSG ", 8)) {
        char *what = strchr(command + 8, ' ');
        if (what) {
            what += what[1] == ':' ? 2 : 1;
            arrived(link->client, what, (size_t)(stop - what));
        }
    } else if (!strncmp(command, "PING ", 5)) {
        print_link(link, "PONG %s\r\n", command + 5);
    } else if (!strncmp(command, "ERROR ", 6)) {
        refused(link->client, command + 6);
    } else if (strlen(command) > 3 && command[3] == ' ') {
        take_numeric(link, command, atoi(command));
    }
    return line_end + 1;
}

/* XMPP (RFC 6120, 6121, XEP-0045). It is read tag by tag, each with the text before it. */

static void greet_xmpp(struct link *link)
{
    print_link(link, "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                     "xmlns:stream='http://etherx.jabber.org/streams'>");
}

static void say_in_stanza(struct client *sender, const char *what)
{
    const char *at = settings.workload == FANOUT ? "" : "@localhost";
    const char *type = settings.workload == FANOUT ? "groupchat" : "chat";
    print_link(&sender->links[0], "<message to='%s%s' type='%s'><body>%s</body></message>",
               sender->to, at, type, what);
}

/* The bytes of \0 NAME \0 PASSWORD in base64; the password is one character. */
static void log_in_to_xmpp(struct link *link)
{
    unsigned char plain[128], encoded[256];
    int length = snprintf((char *)plain + 1, sizeof plain - 3, "%s%d", settings.prefix,
                          link->client->index);
    plain[0] = plain[length + 1] = '\0';
    plain[length + 2] = 'x';
    EVP_EncodeBlock(encoded, plain, length + 3);
    print_link(link, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>",
               (char *)encoded);
}

static void enter_xmpp(struct link *link)
{
    print_link(link, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
                     "<presence/>");
    if (settings.workload == FANOUT)
        print_link(link, "<presence to='" ROOM "/%s%d'><x xmlns='http://jabber.org/protocol/muc'>"
                         "<history maxstanzas='0'/></x></presence>",
                   settings.prefix, link->client->index);
}

static char *take_xmpp(struct link *link, char *begin, char *end)
{
    struct client *client = link->client;
    char *stop = memchr(begin, '>', (size_t)(end - begin));
    uint32_t from;
    if (!stop)
        return NULL;
    *stop = '\0';
    char *tag = strchr(begin, '<');
    if (!tag)
        refused(client, "what it writes is no XML");
    else if (!strcmp(tag, "</body") && tag - begin >= MARK
             && read_hex(begin, 7, &from) && from == (uint32_t)client->index)
        ;  /* a room tells its sender, too */
    else if (!strcmp(tag, "</body"))
        arrived(client, begin, (size_t)(tag - begin));
    else if (!strcmp(tag, "</stream:features"))
        (link->offers++ ? enter_xmpp : log_in_to_xmpp)(link);
    else if (!strncmp(tag, "<success", 8))
        greet_xmpp(link);
    else if (!strcmp(tag, settings.workload == FANOUT ? "</subject" : "</jid")
             || (settings.workload == FANOUT && !strcmp(tag, "<subject/")))
        is_present(client);
    else if (!strncmp(tag, "<failure", 8) || !strcmp(tag, "<stream:error")
             || strstr(tag, "type='error'"))
        refused(client, tag);
    return stop + 1;
}

static const struct dialect DIALECTS[] = {
    {"chat", 1, greet_chat, take_chat, say_in_frame, after_chat},
    {"seed", 2, greet_seed, take_seed, say_in_frame, NULL},
    {"irc", 1, greet_irc, take_irc, say_in_line, NULL},
    {"xmpp", 1, greet_xmpp, take_xmpp, say_in_stanza, NULL},
};

/* The loop */

static uint64_t next_confirm;

static bool is_chat(void)
{
    return settings.dialect->take == take_chat;
}

static void wake_at(uint64_t time)
{
    static uint64_t set;
    if (time == set)
        return;
    set = time;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(time / SECOND), .tv_nsec = (long)(time % SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void keep_time(uint64_t time)
{
    if (time >= next_confirm) {
        next_confirm = time + STEP;
        if (is_chat() && !leaving)
            confirm_rest(time);
    }
    while (sending && settings.rate && time >= due_time(turns))
        go_on(senders[turns++ % (uint64_t)settings.senders]);
}

static void read_input(void)
{
    char ignored[256];
    if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0)
        input_ended = true;
}

/* Handle what comes, until ``time`` at the latest. */
static void turn(uint64_t time)
{
    struct epoll_event events[256];
    uint64_t due = time < next_confirm ? time : next_confirm;
    if (sending && settings.rate && due_time(turns) < due)
        due = due_time(turns);
    wake_at(due ? due : 1);
    int count = epoll_wait(epoll, events, 256, settings.spins ? 0 : -1);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        uint64_t ignored;
        if (events[i].data.ptr == &timer)
            (void)!read(timer, &ignored, sizeof ignored);
        else if (events[i].data.ptr == &input_ended)
            read_input();
        else
            ready(events[i].data.ptr, events[i].events);
    }
    keep_time(now());
}

static void check_silence(const char *awaited)
{
    if (now() > heard + settings.patience)
        fail("the server has said nothing for %.0f s: %s", (double)settings.patience / 1e9,
             awaited);
}

static void spend(double seconds)
{
    uint64_t end = now() + (uint64_t)(seconds * 1e9);
    while (now() < end) {
        turn(end);
        if (in_flight)
            check_silence("messages do not arrive");
    }
}

/* The processor */

/* By the process' own clock: /proc counts in ticks of 10 ms, too coarse for a second of little work. */
static double seconds_of(long pid)
{
    clockid_t clock;
    struct timespec spent;
    if (clock_getcpuclockid((pid_t)pid, &clock) || clock_gettime(clock, &spent))
        return -1;
    return (double)spent.tv_sec + (double)spent.tv_nsec / 1e9;
}

static double own_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

struct moment {
    uint64_t time;
    long messages, deliveries;
    double server, own;            /* seconds of the processor; -1 if SERVER_PID is not there */
    double servers[MAX_SERVERS];   /* those of each process */
};

static struct moment look(void)
{
    struct moment moment = {now(), messages, deliveries, settings.pid_count ? 0 : -1,
                            own_seconds(), {0}};
    for (int i = 0; i < settings.pid_count; i++) {
        double seconds = moment.servers[i] = seconds_of(settings.server_pids[i]);
        moment.server = seconds < 0 || moment.server < 0 ? -1 : moment.server + seconds;
    }
    return moment;
}

/* ``,"name":value`` in JSON; null where SERVER_PID is not there to be asked. */
static void print_server(const char *name, struct moment from, struct moment to, double divisor,
                         double unit)
{
    if (from.server < 0 || to.server < 0 || divisor <= 0)
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%.3f", name, (to.server - from.server) * unit / divisor);
}

/* The same for each process, in the order of SERVER_PID. */
static void print_each(const char *name, struct moment from, struct moment to, double divisor,
                       double unit)
{
    if (from.server < 0 || to.server < 0 || divisor <= 0) {
        printf(",\"%s\":null", name);
        return;
    }
    printf(",\"%s\":[", name);
    for (int i = 0; i < settings.pid_count; i++)
        printf("%s%.3f", i ? "," : "", (to.servers[i] - from.servers[i]) * unit / divisor);
    printf("]");
}

/* The workloads */

static void report_head(void)
{
    printf("{\"dialect\":\"%s\",\"workload\":\"%s\",\"clients\":%d", settings.dialect->name,
           WORKLOADS[settings.workload], settings.clients);
}

static void register_all(bool reports)
{
    struct moment begin = look();
    heard = begin.time;
    start_clients();
    while (present < settings.clients) {
        turn(now() + settings.patience);
        check_silence("clients wait to be registered");
    }
    struct moment end = look();
    double took = (double)(end.time - begin.time) / 1e9;
    if (!reports)
        return;
    report_head();
    printf(",\"seconds\":%.3f,\"registrations\":%d,\"registrations_per_s\":%.1f", took, present,
           present / took);
    print_server("server_us_per_registration", begin, end, present, 1e6);
    print_server("server_busy", begin, end, took, 1);
    printf(",\"load_busy\":%.3f,\"errors\":0}\n", (end.own - begin.own) / took);
    fflush(stdout);
}

static void stay(void)
{
    if (settings.seconds >= 0) {
        spend(settings.seconds);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &input_ended};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        return;  /* a file, which has ended */
    while (!input_ended)
        turn(now() + SECOND);
}

static void start_sending(void)
{
    uint64_t begin = now();
    while (now() < heard + QUIET && now() < begin + settings.patience)
        turn(heard + QUIET);
    heard = begin_of_load = now();
    sending = true;
    for (int i = 0; i < settings.senders && !settings.rate; i++)
        go_on(senders[i]);
}

static int measure(void)
{
    start_sending();
    spend(settings.warm_up);
    struct moment begin = look();
    measuring = true;
    spend(settings.seconds);
    struct moment end = look();
    measuring = sending = false;
    while (in_flight && now() < heard + settings.patience)
        turn(heard + settings.patience);

    long errors = in_flight + misplaced;
    double took = (double)(end.time - begin.time) / 1e9;
    double count = (double)(end.deliveries - begin.deliveries);
    report_head();
    printf(",\"senders\":%d,\"outstanding\":%d,\"text\":%d,\"rate\":%g", settings.senders,
           settings.outstanding, settings.text, settings.rate);
    printf(",\"seconds\":%.3f,\"messages\":%ld,\"deliveries\":%.0f,\"deliveries_per_s\":%.1f", took,
           end.messages - begin.messages, count, count / took);
    printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", latency_us(0.5), latency_us(0.99),
           (double)slowest / 1e3);
    print_server("server_us_per_delivery", begin, end, count, 1e6);
    print_each("each_us_per_delivery", begin, end, count, 1e6);
    print_server("server_busy", begin, end, took, 1);
    printf(",\"load_busy\":%.3f,\"errors\":%ld}\n", (end.own - begin.own) / took, errors);
    fflush(stdout);
    if (errors)
        fprintf(stderr, "load: %ld deliveries are missing, %ld came that should not have\n",
                in_flight, misplaced);
    return errors ? 1 : 0;
}

/* Say QUIT, so that the names are free again at once: version 2 keeps them otherwise. */
static void leave(void)
{
    uint64_t end = now() + LEAVE_WITHIN;
    leaving = true;
    if (!is_chat())
        return;
    for (int i = 0; i < settings.clients; i++)
        print_link(&clients[i].links[0], "QUIT\n\n");
    while (open_links && now() < end)
        turn(end);
}

/* The command line */

static double number(const char *option, const char *value, double least, double most)
{
    char *end;
    double result = strtod(value, &end);
    if (end == value || *end || !(result >= least && result <= most))
        fail("%s is a number from %g to %g, not '%s'", option, least, most, value);
    return result;
}

static int whole(const char *option, const char *value, int least, int most)
{
    double result = number(option, value, least, most);
    if (result != (int)result)
        fail("%s is a whole number, not '%s'", option, value);
    return (int)result;
}

/* Read whole numbers with commas between; return how many there are. */
static int whole_list(const char *option, char *value, int most, long *numbers)
{
    int count = 0;
    for (char *one = strtok(value, ","); one; one = strtok(NULL, ",")) {
        if (count == MAX_SERVERS)
            fail("%s has at most %d numbers", option, MAX_SERVERS);
        numbers[count++] = whole(option, one, 1, most);
    }
    return count;
}

static SSL_CTX *make_tls(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls)
        fail("there is no TLS");
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                              | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(tls, SSL_OP_IGNORE_UNEXPECTED_EOF);
    signal(SIGPIPE, SIG_IGN);  /* OpenSSL writes without MSG_NOSIGNAL */
    return tls;
}

static void read_options(int count, char **arguments)
{
    static const struct option OPTIONS[] = {
        {"clients", 1, NULL, 'c'},  {"senders", 1, NULL, 's'}, {"outstanding", 1, NULL, 'o'},
        {"text", 1, NULL, 't'},     {"warm-up", 1, NULL, 'w'}, {"seconds", 1, NULL, 'd'},
        {"rate", 1, NULL, 'r'},     {"at-once", 1, NULL, 'a'}, {"patience", 1, NULL, 'p'},
        {"name", 1, NULL, 'n'},     {"spin", 0, NULL, 'b'},    {"tls", 0, NULL, 'e'},
        {"help", 0, NULL, 'h'},     {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", OPTIONS, NULL)) >= 0) {
        switch (option) {
        case 'c': settings.clients = whole("--clients", optarg, 1, 1000000); break;
        case 's': settings.senders = whole("--senders", optarg, 1, 1000000); break;
        case 'o': settings.outstanding = whole("--outstanding", optarg, 1, 1000); break;
        case 't': settings.text = whole("--text", optarg, MARK, MAX_TEXT); break;
        case 'w': settings.warm_up = number("--warm-up", optarg, 0, 1e6); break;
        case 'd': settings.seconds = number("--seconds", optarg, 0, 1e6); break;
        case 'r': settings.rate = number("--rate", optarg, 0.001, 1e8); break;
        case 'a': settings.at_once = whole("--at-once", optarg, 1, 1000000); break;
        case 'p':
            settings.patience = (uint64_t)(number("--patience", optarg, 0.1, 1e6) * 1e9);
            break;
        case 'n': settings.prefix = optarg; break;
        case 'b': settings.spins = true; break;
        case 'e': settings.tls = make_tls(); break;
        case 'h': fputs(USAGE, stdout); exit(0);
        default: fprintf(stderr, "load: \"load --help\" lists the options\n"); exit(2);
        }
    }
    if (count - optind != 4)
        fail("what is needed is DIALECT WORKLOAD ADDRESS PORT[,PORT]...; see \"load --help\"");
    arguments += optind;

    for (size_t i = 0; i < sizeof DIALECTS / sizeof *DIALECTS; i++)
        if (!strcmp(arguments[0], DIALECTS[i].name))
            settings.dialect = &DIALECTS[i];
    int workload = 0;
    while (workload < 5 && strcmp(arguments[1], WORKLOADS[workload]))
        workload++;
    if (!settings.dialect || workload == 5)
        fail("no such load: %s %s; see \"load --help\"", arguments[0], arguments[1]);
    settings.workload = (enum workload)workload;
    settings.address = arguments[2];
    long ports[MAX_SERVERS];
    settings.server_count = whole_list("PORT", arguments[3], 65535, ports);
    if (!settings.server_count)
        fail("there is no PORT");
    for (int i = 0; i < settings.server_count; i++) {
        struct sockaddr_in *server = &settings.servers[i];
        server->sin_family = AF_INET;
        server->sin_port = htons((uint16_t)ports[i]);
        if (inet_pton(AF_INET, settings.address, &server->sin_addr) != 1)
            fail("not an IPv4 address: %s", settings.address);
    }
}

static void complete_settings(void)
{
    char *pids = getenv("SERVER_PID");
    bool irc = !strcmp(settings.dialect->name, "irc");
    if (pids)
        settings.pid_count = whole_list("SERVER_PID", pids, INT32_MAX, settings.server_pids);
    if (settings.workload == PAIRS && settings.clients % 2)
        fail("pairs need an even number of --clients");
    if (settings.workload == PAIRS)
        settings.senders = settings.clients / 2;
    if (settings.workload == FANOUT
        && (settings.clients < 2 || settings.senders > settings.clients))
        fail("fanout needs two --clients, and not more --senders than --clients");
    if (settings.workload == MIX) {
        if (settings.clients < 2)
            fail("mix needs two --clients");
        settings.senders = settings.clients;
        settings.rate = settings.rate ? settings.rate : 2000;
    }
    if (irc && settings.text > MAX_IRC_TEXT)
        fail("--text is at most %d on IRC, where a line has 512 octets", MAX_IRC_TEXT);
    if (settings.seconds < 0 && settings.workload != IDLE)
        settings.seconds = 5;

    struct rlimit files;
    rlim_t needed = (rlim_t)settings.clients * (rlim_t)settings.dialect->links + 16;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max != RLIM_INFINITY && files.rlim_max < needed)
        fail("so many clients need %llu open files, and the system allows %llu (ulimit -Hn)",
             (unsigned long long)needed, (unsigned long long)files.rlim_max);
}

static char *name_of(int index)
{
    char name[128];
    snprintf(name, sizeof name, "%s%d", settings.prefix, index);
    return strcpy(grown(NULL, strlen(name) + 1), name);
}

static void make_clients(void)
{
    bool fanout = settings.workload == FANOUT, pairs = settings.workload == PAIRS;
    bool mix = settings.workload == MIX;
    const char *all = settings.dialect->say == say_in_line     ? CHANNEL
                      : settings.dialect->say == say_in_stanza ? ROOM
                                                               : "ALL";
    audience = fanout ? settings.clients - 1 : 1;
    places = PLACES * (uint32_t)settings.outstanding;
    clients = zeroed((size_t)settings.clients, sizeof *clients);
    senders = zeroed((size_t)settings.senders, sizeof *senders);
    for (int i = 0; i < settings.clients; i++) {
        struct client *client = &clients[i];
        client->index = i;
        for (int k = 0; k < 2; k++)
            client->links[k] = (struct link){.client = client, .fd = -1};
        if (fanout || mix || (pairs && i % 2))
            client->expected = zeroed(fanout ? (size_t)settings.senders : 1, sizeof(uint32_t));
        if ((fanout && i < settings.senders) || mix || (pairs && i % 2 == 0)) {
            client->place = pairs ? i / 2 : i;
            senders[client->place] = client;
            client->flights = zeroed(places, sizeof *client->flights);
            client->to = fanout ? all : name_of(mix ? partner_of(i) : i + 1);
        }
    }
    memset(text, 'x', (size_t)settings.text);
}

int main(int count, char **arguments)
{
    read_options(count, arguments);
    complete_settings();
    make_clients();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
    if (epoll < 0 || timer < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event) < 0)
        fail("epoll: %s", strerror(errno));

    bool registers_only = settings.workload == IDLE || settings.workload == STORM;
    int status = 0;
    register_all(registers_only);
    if (settings.workload == IDLE)
        stay();
    else if (!registers_only)
        status = measure();
    leave();
    return status;
}
