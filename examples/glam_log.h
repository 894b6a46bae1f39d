/* glam_log.h - the log of a run: one JSON object per line.  A part of glam.c. */

#ifndef GLAM_LOG_H
#define GLAM_LOG_H

static void log_begin(FILE *f, const char *event)
{
    fprintf(f, "{\"event\":\"%s\"", event);
}

static void log_end(FILE *f)
{
    fputs("}\n", f);
    fflush(f);                                          // so that the file can be watched
}

static void log_string(FILE *f, const char *key, const char *text)
{
    fprintf(f, ",\"%s\":\"", key);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') fprintf(f, "\\%c", *c);
        else if (*c < 32) fprintf(f, "\\u%04x", *c);
        else fputc(*c, f);
    }
    fputs("\"", f);
}

static void log_int(FILE *f, const char *key, uint64_t value)
{
    fprintf(f, ",\"%s\":%" PRIu64, key, value);
}

static void log_real(FILE *f, const char *key, double value)
{
    if (isfinite(value)) fprintf(f, ",\"%s\":%.9g", key, value);
    else fprintf(f, ",\"%s\":null", key);               // JSON has no word for these
}

// A float in the fewest digits that bring it back: 0.01 and not 0.00999999978.
static const char *short_float(float value)
{
    char *out = show_buffer();
    for (int digits = 6; digits < 10; digits++) {
        snprintf(out, 40, "%.*g", digits, (double)value);
        if ((float)strtod(out, NULL) == value) break;
    }
    return out;
}


static void log_config(FILE *f, const glam_config *c)
{
    fprintf(f, ",\"config\":{\"vocab\":%d,\"context\":%d,\"layers\":%d,\"d_model\":%d,"
            "\"heads\":%d,\"d_head\":%d,\"hidden\":%d,\"position\":\"%s\",\"buckets\":%d,"
            "\"max_distance\":%d,\"attention_scale\":%s,\"attention_sink\":%s,"
            "\"attention_cap\":%s,\"activation\":\"%s\",\"norm_eps\":%s,\"tied\":%s,"
            "\"logit_scale\":%s,\"logit_cap\":%s,\"z_loss\":%s,",
            c->vocab, c->context, c->layers, c->d_model, c->heads, c->d_head,
            c->hidden, position_names[c->position], c->buckets, c->max_distance,
            short_float(c->attention_scale), c->attention_sink ? "true" : "false",
            short_float(c->attention_cap), activation_names[c->activation],
            short_float(c->norm_eps), c->tied ? "true" : "false", short_float(c->logit_scale),
            short_float(c->logit_cap), short_float(c->z_loss));
    const glam_moe_config *m = &c->moe;
    fprintf(f, "\"moe\":{\"experts\":%d,\"top_k\":%d,\"every\":%d,\"offset\":%d,\"hidden\":%d,"
            "\"activation\":\"%s\",\"normalise\":\"%s\",\"capacity_factor\":%s,"
            "\"capacity\":%d,\"group\":%d,\"aux_weight\":%s,\"router_z_weight\":%s,"
            "\"router_cap\":%s}}",
            m->experts, m->top_k, m->every, m->offset, m->hidden, activation_names[m->activation],
            normalise_names[m->normalise], short_float(m->capacity_factor), m->capacity, m->group,
            short_float(m->aux_weight), short_float(m->router_z_weight),
            short_float(m->router_cap));
}

static void log_recipe(FILE *f, const glam_recipe *r)
{
    fprintf(f, ",\"recipe\":{\"optimizer\":\"%s\",\"schedule\":\"%s\",\"lr\":%.9g,"
            "\"embed_lr\":%.9g,\"bias_lr\":%.9g,\"warmup\":%d,\"min_lr\":%.9g,\"batch\":%d,"
            "\"context\":%d,"
            "\"accumulate\":%d,\"recompute\":%d,\"update_in_backward\":%d,\"clip\":%.9g,"
            "\"weight_decay\":%.9g,\"beta1\":%.9g,\"beta2\":%.9g,\"eval_every\":%d,"
            "\"patience\":%d}", optimizer_names[r->optimizer], schedule_names[r->schedule], r->lr,
            r->embed_lr, r->bias_lr, r->warmup, r->min_lr, r->batch, r->context, r->accumulate,
            r->recompute, r->update_in_backward, r->clip, r->weight_decay, r->beta1, r->beta2,
            r->eval_every, r->patience);
}

static const char *compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

#endif
