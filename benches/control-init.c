// PID 1 of the bare control that `make bench` boots beside the standby disk:
// modules, a fixed address, Caddy and nginx. No verity, no containers.
//
// Built static: cc -O2 -static -o init control-init.c
// Beside it in the initrd: /control/modules, the modules' paths in load order.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// The address that QEMU's user network forwards to.
#define ADDRESS "10.0.2.15"
#define NETMASK "255.255.255.0"
// www-data, as the image's configuration says.
#define NGINX_USER 33
#define PAUSE_NANOSECONDS 5000000

// A line in the form of the guest's own, so that one reader serves both.
static void say(const char *format, ...) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    char words[256];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof words, format, list);
    va_end(list);
    dprintf(STDOUT_FILENO, "[%7lld ms] control: %s\n",
            (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, words);
}

// PID 1 must not end: say why, and stand still until QEMU is stopped.
static void fail(const char *what) {
    say("FAILED: %s: %s", what, strerror(errno));
    for (;;) pause();
}

static void pause_shortly(void) {
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NANOSECONDS}, NULL);
}

static void mount_kernel(void) {
    static const char *const kinds[][2] = {
        {"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        mkdir(kinds[i][1], 0755);
        if (mount(kinds[i][0], kinds[i][1], kinds[i][0], 0, NULL) != 0 && errno != EBUSY)
            fail(kinds[i][1]);
    }
    int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
    if (console < 0) fail("/dev/ttyS0");
    for (int fd = 0; fd <= 2; fd++) dup2(console, fd);
    if (console > 2) close(console);
}

static void load_modules(void) {
    FILE *list = fopen("/control/modules", "re");
    if (list == NULL) fail("/control/modules");
    char path[256];
    while (fgets(path, sizeof path, list) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) fail(path);
        if (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST) fail(path);
        close(file);
    }
    fclose(list);
}

static void link_up(int socket, const char *name) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP;
    // The network card appears some time after its module.
    while (ioctl(socket, SIOCSIFFLAGS, &request) != 0) {
        if (errno != ENODEV) fail(name);
        pause_shortly();
    }
}

static void set_address(int socket, unsigned long what, const char *name, const char *text) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    address->sin_family = AF_INET;
    inet_pton(AF_INET, text, &address->sin_addr);
    if (ioctl(socket, what, &request) != 0) fail(text);
}

static void network_up(void) {
    int with = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (with < 0) fail("socket");
    link_up(with, "lo");
    link_up(with, "eth0");
    set_address(with, SIOCSIFADDR, "eth0", ADDRESS);
    set_address(with, SIOCSIFNETMASK, "eth0", NETMASK);
    close(with);
}

static void start(uid_t user, char *const arguments[], char *const environment[]) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child > 0) return;
    if (user != 0 && (setgroups(0, NULL) != 0 || setgid(user) != 0 || setuid(user) != 0))
        fail("user");
    execve(arguments[0], arguments, environment);
    say("FAILED: %s: %s", arguments[0], strerror(errno));
    _exit(127);
}

// Says when a port of this machine accepts, so that the phases have ends.
static void watch_port(const char *name, unsigned short port) {
    pid_t child = fork();
    if (child != 0) return;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (;;) {
        int with = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (with >= 0 && connect(with, (struct sockaddr *)&address, sizeof address) == 0) break;
        if (with >= 0) close(with);
        pause_shortly();
    }
    say("phase %s", name);
    _exit(0);
}

int main(void) {
    mount_kernel();
    say("phase kernel");
    load_modules();
    say("phase modules");
    network_up();
    say("phase network");
    static char *const caddy[] = {"/usr/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile",
                                  "--adapter", "caddyfile", NULL};
    static char *const caddy_environment[] = {"HOME=/data", "XDG_CONFIG_HOME=/config",
                                              "XDG_DATA_HOME=/data", NULL};
    start(0, caddy, caddy_environment);
    static char *const nginx[] = {"/usr/sbin/nginx", "-e", "stderr", NULL};
    static char *const nginx_environment[] = {"HOME=/var/www", NULL};
    start(NGINX_USER, nginx, nginx_environment);
    say("phase started");
    watch_port("front-listens", 443);
    watch_port("runtime-listens", 8080);
    for (;;) {
        int status = 0;
        pid_t ended = wait(&status);
        if (ended > 0 && status != 0) say("process %d ended with %d", (int)ended, status);
        if (ended < 0) pause();
    }
}
