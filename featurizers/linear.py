"""Directions and features that follow from the training vectors alone: by variance, or by a linear classifier.

Everything is computed on the CPU in float64.  Names of arrays end in their shape: N vectors, C vectors with a class,
F features, D = d_model.
"""

import warnings

from imports import np, torch

STRENGTHS = np.logspace(-4, 4, 33)  # of an L1 penalty, strong to weak: C of LinearSVC
SMALLEST = 1e-6  # of the largest, is a direction's share in a probe: what is below is rounding


def principal_directions(x_ND: torch.Tensor) -> torch.Tensor:
    """The directions of largest variance first, [D, n] in fp32, orthonormal; the largest entry of each is positive.

    n is the number of dimensions in which the vectors vary: at most D, and less than N.
    """
    x = x_ND.cpu().double()
    _, spread_K, v_KD = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    n = int((spread_K > spread_K[0] * max(x.shape) * torch.finfo(torch.float32).eps).sum())  # the vectors' own rounding
    v_nD = v_KD[:n]
    largest_n1 = v_nD.gather(1, v_nD.abs().argmax(1, keepdim=True))
    return (v_nD * largest_n1.sign()).T.float().contiguous()


def chosen_by_l1(features_CF: torch.Tensor, class_C: torch.Tensor, size: int) -> torch.Tensor:
    """[F] bool: the `size` features that linear classifiers with an L1 penalty use first, as the penalty weakens.

    The penalty of one classifier per class (squared hinge loss) is weakened step by step until it leaves that many
    features.  Those of an earlier step come first, and of one step those with the largest weights over all classes.  So
    a smaller size's choice is part of a larger one's.  Fewer are chosen where no strength uses as many.
    """
    f_CF, wanted_C = _scaled(features_CF), class_C.numpy()
    chosen: list[int] = []
    for strength in STRENGTHS:
        weight_F = _l1_weights(f_CF, wanted_C, strength)
        new_F = np.setdiff1d(np.nonzero(weight_F)[0], chosen)
        chosen += new_F[np.argsort(-weight_F[new_F], kind="stable")].tolist()
        if len(chosen) >= size:
            break
    is_chosen_F = torch.zeros(features_CF.shape[1], dtype=torch.bool)
    is_chosen_F[chosen[:size]] = True
    return is_chosen_F


def probe_directions(x_CD: torch.Tensor, class_C: torch.Tensor, size: int) -> torch.Tensor:
    """Orthonormal directions [D, at most `size`] in fp32 from which the class can be read.

    Iterated null-space projection (Ravfogel et al. 2020, "Null It Out: Guarding Protected Attributes by Iterative
    Nullspace Projection"): a linear probe is fitted, its rows give directions, the strongest first; the vectors are
    projected onto what is orthogonal to them, and the next probe is fitted there.  Fewer come out where nothing is left
    of the vectors.
    """
    from imports import linear_model  # here, as it takes a second that only probes need

    x, wanted_C = _scaled(x_CD), class_C.numpy()
    x = x - x.mean(0)
    largest = np.linalg.norm(x)
    found_kD = np.zeros((0, x.shape[1]))
    while len(found_kD) < size:
        left = x - x @ found_kD.T @ found_kD
        if np.linalg.norm(left) <= SMALLEST * largest:
            break
        probe = linear_model.LogisticRegression(max_iter=1000)
        weight_GD = _quietly(probe.fit, left, wanted_C).coef_
        weight_GD = weight_GD - weight_GD @ found_kD.T @ found_kD  # against rounding
        _, strength_K, v_KD = np.linalg.svd(weight_GD, full_matrices=False)
        new_kD = v_KD[strength_K > SMALLEST * strength_K[0]][: size - len(found_kD)]
        found_kD = np.linalg.qr(np.concatenate([found_kD, new_kD]).T)[0].T
    return torch.from_numpy(found_kD.T).float().contiguous()


def _scaled(x: torch.Tensor) -> np.ndarray:
    """Divided by one number, so that a penalty means the same for every model and layer: the root mean square."""
    x = x.detach().cpu().double()
    return (x / x.square().mean().sqrt().clamp_min(1e-30)).numpy()


def _l1_weights(f_CF: np.ndarray, wanted_C: np.ndarray, strength: float) -> np.ndarray:
    """The sum over classes of each feature's absolute weight, [F]."""
    from imports import svm  # here, for the same reason

    classifier = svm.LinearSVC(C=strength, penalty="l1", dual=False, tol=1e-3, max_iter=5000, random_state=0)
    return np.abs(_quietly(classifier.fit, f_CF, wanted_C).coef_).sum(0)


def _quietly(fit, *arguments):
    """Without scikit-learn's warnings: of a fit that has not converged to the last digit, or of few vectors a class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fit(*arguments)
