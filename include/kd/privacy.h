/* SPDX-License-Identifier: MIT */
/*
 * What noisy votes cost in privacy, when each teacher was trained on data that no other
 * teacher saw (PATE: Papernot et al. 2017, arXiv 1610.05755; 2018, arXiv 1802.08908).
 *
 * Setting. Teacher m votes for one class; n_c is the number of votes for class c. A
 * person is in the data of one teacher, so that leaving her out changes one vote at
 * most: one count falls by 1 and another rises by 1. An answer is
 *
 *     lnmax              argmax_c n_c + Laplace(b)
 *     gnmax              argmax_c n_c + Normal(0, s^2)
 *     confident-gnmax    the same where max_c n_c + Normal(0, s1^2) >= t, else none
 *
 * b is the papers' 1/gamma, s their sigma (sigma_2), s1 their sigma_1, t their T. All
 * cost is accounted as Renyi differential privacy (Mironov 2017, arXiv 1702.07476): a
 * mechanism is (a, e)-RDP if the Renyi divergence of order a > 1 between its outputs on
 * neighbouring data is at most e. Renyi costs of one order add up over answers.
 *
 * Cost of one answer; the argmax is post-processing, so it is that of the noisy counts:
 *
 *     gnmax: the counts move by (1, -1), of Euclidean length sqrt 2, and a Gaussian
 *         mechanism of sensitivity d costs a d^2 / (2 s^2). So  e(a) = a / s^2
 *         (Papernot et al. 2018, proposition 8).
 *     the check of confident-gnmax: the greatest count moves by 1 at most, so
 *         e(a) = a / (2 s1^2),  for every question; an answer costs a / s^2 on top.
 *     lnmax: two independent counts move by 1 each, and one Laplace mechanism of
 *         sensitivity 1 costs (Mironov 2017, table II)
 *             ln( a/(2a-1) e^((a-1)/b) + (a-1)/(2a-1) e^(-a/b) ) / (a-1),
 *         so e(a) is twice that. As a grows it rises to 2/b, the pure (2/b, 0)
 *         differential privacy that Papernot et al. 2017 state as 2 gamma.
 *
 * A cost of e(a) gives (epsilon, delta)-differential privacy with
 *
 *     epsilon = min over a > 1 of  e(a) + ln(1/delta) / (a - 1)
 *
 * (Mironov 2017, proposition 3); lnmax also with 2/b an answer and delta 0. These
 * bounds hold whatever the votes are; the tighter ones that depend on the votes are
 * secrets themselves. They count on noise that nobody knows: a cache holds the noise's
 * seed, so publish labels exported from it, not the cache. How many of
 * confident-gnmax's questions were answered depends on the data, too: a bound that is
 * fixed beforehand takes all of them.
 *
 *     struct kd_noise noise = {KD_NOISE_GNMAX, .scale = 40};
 *     struct kd_privacy cost = kd_privacy_cost(&noise, 1000, 1000, 1e-5);
 *     printf("(%g, 1e-5)-private\n", cost.epsilon);
 */
#ifndef KD_PRIVACY_H
#define KD_PRIVACY_H

#include "kd/status.h"

#include <stdint.h>

enum kd_noise_kind { KD_NOISE_LNMAX, KD_NOISE_GNMAX, KD_NOISE_CONFIDENT_GNMAX };

/* "lnmax", "gnmax", "confident-gnmax", ended by NULL. */
extern const char *const kd_noise_names[];

struct kd_noise {
    enum kd_noise_kind kind;
    double scale;     /* b or s, in votes; above 0 */
    double check;     /* confident-gnmax: s1, above 0; else 0 */
    double threshold; /* confident-gnmax: t, in votes; else 0 */
};

/* KD_EUSAGE where a field is out of its range or does not belong to the kind. */
enum kd_status kd_noise_check(const struct kd_noise *noise) KD_CHECKED;

/* The Renyi cost of order a > 1 of `asked` questions, `answered` of them answered. */
double kd_privacy_renyi(const struct kd_noise *noise, uint64_t asked, uint64_t answered,
                        double order);

struct kd_privacy {
    double epsilon;
    double order; /* the a that gave it; infinite for pure differential privacy */
};

/* The least epsilon for 0 <= delta < 1. With delta 0 it is infinite but for lnmax. */
struct kd_privacy kd_privacy_cost(const struct kd_noise *noise, uint64_t asked,
                                  uint64_t answered, double delta);

#endif
