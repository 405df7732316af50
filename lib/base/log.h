/* log.h - messages of a process: levels, debug areas by name, rate limits.
 *
 * A message is lower case, without newline, and says who, what and why; the
 * process' name (log_name) is put before it.  errno survives every call.
 * Threads: all but log_open() and log_name() may be called from any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* syslog's severities; they are also the <N> prefix that the journal reads. */
enum log_level {
	LOG_LVL_ERR	= 3,
	LOG_LVL_WARN	= 4,
	LOG_LVL_INFO	= 6,
	LOG_LVL_DEBUG	= 7,
};

enum log_to {
	LOG_TO_STDERR,		/* "<N>" prefixes when it is the journal's */
	LOG_TO_SYSLOG,
};

/* Debug areas; log_areas_help() lists them. */
enum log_area {
	LOG_LOOP	= 1u << 0,
	LOG_IO		= 1u << 1,
	LOG_NODE	= 1u << 2,
	LOG_DISK	= 1u << 3,
	LOG_RING	= 1u << 4,
	LOG_NBD		= 1u << 5,
	LOG_CTL		= 1u << 6,
};

/* ident: program name, kept (not copied).  level: messages above it are
 * dropped; debug needs its area as well. */
void log_open(enum log_to to, const char *ident, enum log_level level);

/* "err", "warn", "info", "debug"; false if it is none of them. */
bool log_parse_level(const char *s, enum log_level *level);
/* "stderr", "syslog"; false if it is neither. */
bool log_parse_to(const char *s, enum log_to *to);
enum log_to log_target(void);
enum log_level log_get_level(void);
void log_set_level(enum log_level level);

/* What stands in brackets after ident, e.g. "12 aio:/srv/a.img"; copied. */
void log_name(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Switch areas: "ring,disk", "ring=1,disk=0", "all", "none".  Areas not named
 * stay.  0, or -EINVAL and nothing changed.  Areas on imply level debug. */
int log_areas_set(const char *s);
extern uint32_t log_areas;
const char *log_areas_help(void);

void log_write(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void log_vwrite(enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

#define log_err(...) log_write(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_dbg(area, ...)                                                  \
	do {                                                                \
		if (__builtin_expect(log_areas & (area), 0))                \
			log_write(LOG_LVL_DEBUG, __VA_ARGS__);              \
	} while (0)

/* At most LOG_BURST messages of one kind in LOG_INTERVAL_S seconds; the first
 * of the next interval is preceded by a count of those that were dropped. */
#define LOG_BURST 10
#define LOG_INTERVAL_S 10
struct log_limit {
	uint64_t since_ns;
	unsigned count, dropped;
};
bool log_allowed(struct log_limit *l);

/* Our own broken promise: say so in the log and abort.  Always compiled in.
 * Never on what a guest, an image, a peer or a client sent. */
#define ASSERT(cond)                                                        \
	do {                                                                \
		if (__builtin_expect(!(cond), 0))                           \
			log_assert_failed(#cond, __FILE__, __LINE__);       \
	} while (0)
_Noreturn void log_assert_failed(const char *cond, const char *file, int line);

#endif
