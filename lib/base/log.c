/* log.c - see log.h.  One line is one write(2) or syslog(3), so lines of
 * several processes on one stderr do not mix. */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

static struct {
	enum log_to to;
	enum log_level level;
	const char *ident;
	bool prefix;		/* stderr goes to the journal */
	char name[128];
} logger = { .level = LOG_LVL_INFO, .ident = "tap" };

uint32_t log_areas;

static const char *const area_names[] = {
	"loop", "io", "node", "disk", "ring", "nbd", "ctl",
};

void log_open(enum log_to to, const char *ident, enum log_level level)
{
	logger.to = to;
	logger.ident = ident;
	logger.level = level;
	logger.prefix = getenv("JOURNAL_STREAM") != NULL;
	if (to == LOG_TO_SYSLOG)
		openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

enum log_to log_target(void)
{
	return logger.to;
}

enum log_level log_get_level(void)
{
	return logger.level;
}

void log_set_level(enum log_level level)
{
	logger.level = level;
}

bool log_parse_level(const char *s, enum log_level *level)
{
	static const struct { const char *name; enum log_level level; } t[] = {
		{ "err", LOG_LVL_ERR }, { "warn", LOG_LVL_WARN },
		{ "info", LOG_LVL_INFO }, { "debug", LOG_LVL_DEBUG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (!strcmp(s, t[i].name)) {
			*level = t[i].level;
			return true;
		}
	return false;
}

bool log_parse_to(const char *s, enum log_to *to)
{
	if (!strcmp(s, "stderr"))
		*to = LOG_TO_STDERR;
	else if (!strcmp(s, "syslog"))
		*to = LOG_TO_SYSLOG;
	else
		return false;
	return true;
}

void log_name(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(logger.name, sizeof(logger.name), fmt, ap);
	va_end(ap);
}

/* One word of log_areas_set(): *mask and *value say what to change. */
static int area_word(const char *w, size_t len, uint32_t *mask, uint32_t *value)
{
	bool on = true;

	if (len > 2 && w[len - 2] == '=') {
		if (w[len - 1] != '0' && w[len - 1] != '1')
			return -EINVAL;
		on = w[len - 1] == '1';
		len -= 2;
	}
	if (len == 3 && !memcmp(w, "all", 3)) {
		*mask = (1u << ARRAY_SIZE(area_names)) - 1;
	} else if (len == 4 && !memcmp(w, "none", 4)) {
		*mask = (1u << ARRAY_SIZE(area_names)) - 1;
		on = false;
	} else {
		*mask = 0;
		for (size_t i = 0; i < ARRAY_SIZE(area_names); i++)
			if (strlen(area_names[i]) == len &&
			    !memcmp(w, area_names[i], len))
				*mask = 1u << i;
		if (!*mask)
			return -EINVAL;
	}
	*value = on ? *mask : 0;
	return 0;
}

int log_areas_set(const char *s)
{
	uint32_t areas = log_areas;

	while (*s) {
		size_t len = strcspn(s, ",");
		uint32_t mask, value;

		if (area_word(s, len, &mask, &value))
			return -EINVAL;
		areas = (areas & ~mask) | value;
		s += len + (s[len] == ',');
	}
	log_areas = areas;
	return 0;
}

const char *log_areas_help(void)
{
	return "loop io node disk ring nbd ctl all none";
}

void log_vwrite(enum log_level level, const char *fmt, va_list ap)
{
	int saved = errno;
	char text[1024], line[1280];
	int n;

	if (level > logger.level && !(level == LOG_LVL_DEBUG && log_areas))
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	for (char *p = text; *p; p++)	/* names may come from a client */
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	if (logger.to == LOG_TO_SYSLOG) {
		if (logger.name[0])
			syslog(level, "[%s]: %s", logger.name, text);
		else
			syslog(level, "%s", text);
	} else {
		char prefix[8] = "";

		if (logger.prefix)
			snprintf(prefix, sizeof(prefix), "<%d>", level);
		if (logger.name[0])
			n = snprintf(line, sizeof(line), "%s%s[%s]: %s\n", prefix,
				     logger.ident, logger.name, text);
		else
			n = snprintf(line, sizeof(line), "%s%s: %s\n", prefix,
				     logger.ident, text);
		if (n >= (int)sizeof(line)) {
			n = sizeof(line) - 1;
			line[n - 1] = '\n';
		}
		/* Nobody is left to tell when stderr is gone. */
		if (write(STDERR_FILENO, line, n) < 0)
			errno = saved;
	}
	errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(level, fmt, ap);
	va_end(ap);
}

bool log_allowed(struct log_limit *l)
{
	uint64_t now = clock_ns();

	if (now - l->since_ns > LOG_INTERVAL_S * 1000000000ull) {
		unsigned dropped = l->dropped;

		*l = (struct log_limit){ .since_ns = now };
		if (dropped)
			log_warn("%u similar messages were not shown", dropped);
	}
	if (l->count < LOG_BURST) {
		l->count++;
		return true;
	}
	l->dropped++;
	return false;
}

_Noreturn void log_assert_failed(const char *cond, const char *file, int line)
{
	log_write(LOG_LVL_ERR, "broken promise at %s:%d: %s", file, line, cond);
	abort();
}
