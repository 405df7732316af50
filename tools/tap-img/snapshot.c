/* snapshot.c - tap-img snapshot: states of a disk that are kept inside its image. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "tap_img.h"

static void print(const json_t *o)
{
	time_t date = (time_t)json_u64(o, "date-sec");
	uint64_t clock = json_u64(o, "vm-clock-sec");
	unsigned ms = (unsigned)(json_u64(o, "vm-clock-nsec") / 1000000);
	char size[32], when[64] = "", vm[64], icount[24] = "";
	struct tm tm;

	if (localtime_r(&date, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(vm, sizeof(vm), "%02llu:%02u:%02u.%03u",
		 (unsigned long long)(clock / 3600), (unsigned)(clock / 60 % 60),
		 (unsigned)(clock % 60), ms);
	if (json_object_get(o, "icount"))
		snprintf(icount, sizeof(icount), "%llu",
			 (unsigned long long)json_u64(o, "icount"));
	printf("%-9s %-16s %8s %20s %13s %10s\n",
	       json_string_value(json_object_get(o, "id")),
	       json_string_value(json_object_get(o, "name")),
	       size_human(json_u64(o, "vm-state-size"), size), when, vm, icount);
}

void snapshots_print(const json_t *list)
{
	size_t i;
	json_t *o;

	if (!list)
		return;
	printf("Snapshot list:\n%-9s %-16s %8s %20s %13s %10s\n", "ID", "TAG",
	       "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	json_array_foreach((json_t *)list, i, o)
		print(o);
}
