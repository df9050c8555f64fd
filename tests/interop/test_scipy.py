"""scipy with our arrays, as it comes: every result is NumPy's."""

from __future__ import annotations

from typing import Any

from neighbours import Arrays, Call, Neighbour, load

for _name in (
    "fft", "fftpack", "integrate", "interpolate", "io", "linalg", "ndimage", "optimize", "signal",
    "sparse", "sparse.linalg", "spatial", "spatial.distance", "special", "stats", "cluster.vq",
):  # fmt: skip
    load(f"scipy.{_name}")
sp = load("scipy")
scipy = Neighbour("scipy")
works, ours, numpys = scipy.works, scipy.ours, scipy.numpys


def spd(a: Arrays) -> Any:
    """Return a symmetric positive definite matrix."""
    return a([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])


def rosen(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


numpys(
    "linalg.solve, inv, lstsq",
    lambda a: [
        sp.linalg.solve(spd(a), a.random(3)),
        sp.linalg.inv(spd(a)),
        sp.linalg.lstsq(spd(a), a.random(3))[0],
    ],
)
numpys(
    "linalg.eigh, svd, qr, lu, cholesky",
    lambda a: [
        sp.linalg.eigh(spd(a))[0],
        sp.linalg.svd(spd(a))[1],
        abs(sp.linalg.qr(spd(a))[1]),
        sp.linalg.lu(spd(a))[2],
        sp.linalg.cholesky(spd(a)),
    ],
)
numpys(
    "linalg.expm, sqrtm, block_diag, toeplitz",
    lambda a: [
        sp.linalg.expm(spd(a)),
        sp.linalg.sqrtm(spd(a)),
        sp.linalg.block_diag(spd(a), spd(a)),
        sp.linalg.toeplitz(a.random(3)),
    ],
)
works("linalg.norm, det", lambda a: [sp.linalg.norm(spd(a)), sp.linalg.det(spd(a))])
numpys("linalg.blas.dgemm(1, x, y)", lambda a: sp.linalg.blas.dgemm(1.0, spd(a), spd(a)))
works(
    "linalg.solve(overwrite_a, overwrite_b)",
    lambda a: sp.linalg.solve(spd(a), a.random(3), overwrite_a=True, overwrite_b=True).tolist(),
)
numpys(
    "fft.fft, rfft, dct(x)",
    lambda a: [sp.fft.fft(a.random(8)), sp.fft.rfft(a.random(8)), sp.fft.dct(a.random(8))],
)
numpys(
    "ndimage.gaussian_filter, sobel, label",
    lambda a: [
        sp.ndimage.gaussian_filter(a.random(8, 8), 1),
        sp.ndimage.sobel(a.random(8, 8)),
        sp.ndimage.label(a.random(8, 8) > 0.5)[0],
    ],
)
numpys(
    "ndimage.zoom, map_coordinates, affine_transform",
    lambda a: [
        sp.ndimage.zoom(a.random(4, 4), 2),
        sp.ndimage.map_coordinates(a.random(4, 4), a.random(2, 3)),
        sp.ndimage.affine_transform(a.random(4, 4), a([[1.0, 0.1], [0.0, 1.0]])),
    ],
)
works(
    "ndimage.center_of_mass(x), sum(x, y, z)",
    lambda a: [
        sp.ndimage.center_of_mass(a.random(4, 4)),
        sp.ndimage.sum(a.random(4), a([1, 1, 2, 2]), a([1, 2])).tolist(),
    ],
)
numpys(
    "signal.convolve, fftconvolve, medfilt",
    lambda a: [
        sp.signal.convolve(a.random(8), a.random(3)),
        sp.signal.fftconvolve(a.random(8), a.random(3)),
        sp.signal.medfilt(a.random(8), 3),
    ],
)
numpys(
    "signal.filtfilt(*butter), lfilter, sosfilt",
    lambda a: [
        sp.signal.filtfilt(*sp.signal.butter(2, 0.3), a.random(30)),
        sp.signal.lfilter(a([1.0]), a([1.0, -0.5]), a.random(8)),
        sp.signal.sosfilt(sp.signal.butter(2, 0.3, output="sos"), a.random(8)),
    ],
)
numpys(
    "signal.find_peaks, welch, resample",
    lambda a: [
        sp.signal.find_peaks(a.random(30))[0],
        sp.signal.welch(a.random(64), nperseg=32)[1],
        sp.signal.resample(a.random(8), 5),
    ],
)
works(
    "stats.pearsonr, ttest_ind, ks_2samp",
    lambda a: [
        tuple(sp.stats.pearsonr(a.random(9), a.random(9, seed=1))),
        tuple(sp.stats.ttest_ind(a.random(9), a.random(9, seed=1))),
        sp.stats.ks_2samp(a.random(9), a.random(9, seed=1)).pvalue,
    ],
)
works(
    "stats.norm.fit(x), linregress(x, y)",
    lambda a: [
        sp.stats.norm.fit(a.random(9)),
        tuple(sp.stats.linregress(a.random(9), a.random(9, seed=1))),
    ],
)
works(
    "stats.skew, kurtosis, describe(x)",
    lambda a: [
        sp.stats.skew(a.random(9)),
        sp.stats.kurtosis(a.random(9)),
        sp.stats.describe(a.random(9)).variance,
    ],
)
numpys(
    "stats.zscore, rankdata, norm.pdf(x)",
    lambda a: [
        sp.stats.zscore(a.random(9)),
        sp.stats.rankdata(a.random(9)),
        sp.stats.norm.pdf(a.random(9)),
    ],
)
numpys("stats.gaussian_kde(x)(y)", lambda a: sp.stats.gaussian_kde(a.random(30))(a([0.2, 0.5])))
ours(
    "special.erf, expit, gamma, jv(x)",
    lambda a: [
        sp.special.erf(a.random(5)),
        sp.special.expit(a.random(5)),
        sp.special.gamma(a.random(5)),
        sp.special.jv(1, a.random(5)),
    ],
)
works("special.logsumexp(x)", lambda a: sp.special.logsumexp(a.random(5)))
numpys("special.softmax(x)", lambda a: sp.special.softmax(a.random(5)))
numpys(
    "optimize.minimize(f, x0).x",
    lambda a: sp.optimize.minimize(rosen, a([1.3, 0.7]), options={"maxiter": 5}).x,
)
numpys(
    "optimize.minimize(f, x0), f of ours",
    lambda a: sp.optimize.minimize(lambda x: (a.np.asarray(x) ** 2).sum(), a([1.0, 2.0])).x.round(
        4
    ),
)
numpys(
    "optimize.curve_fit(f, x, y)",
    lambda a: sp.optimize.curve_fit(
        lambda x, k, c: k * x + c, a([0.0, 1.0, 2.0]), a([1.0, 3.1, 5.0])
    )[0],
)
ours(
    "optimize.least_squares(f, x0).x, f of ours",
    lambda a: sp.optimize.least_squares(lambda x: x - a([1.0, 2.0]), a([0.0, 0.0])).x,
    rtol=1e-7,
)
numpys(
    "optimize.root(f, x0).x, nnls",
    lambda a: [
        sp.optimize.root(lambda x: x**2 - a([4.0, 9.0]), a([1.0, 1.0])).x,
        sp.optimize.nnls(spd(a), a.random(3))[0],
    ],
)
works(
    "optimize.linprog(x, A_ub=y, b_ub=z)",
    lambda a: sp.optimize.linprog(a([-1.0, 1.0]), A_ub=a([[1.0, 1.0]]), b_ub=a([2.0])).fun,
)
works(
    "optimize.linear_sum_assignment(x)",
    lambda a: [i.tolist() for i in sp.optimize.linear_sum_assignment(spd(a))],
)
works(
    "integrate.quad of f with ours inside",
    lambda a: sp.integrate.quad(lambda t: float((a([1.0, 2.0]) * t).sum()), 0, 1)[0],
)
works(
    "integrate.simpson, trapezoid(y, x)",
    lambda a: [
        sp.integrate.simpson(a.random(9), x=a(range(9), float)),
        sp.integrate.trapezoid(a.random(9)),
    ],
)
numpys(
    "integrate.solve_ivp(f, t, y0, t_eval=x)",
    lambda a: (
        sp.integrate.solve_ivp(
            lambda t, y: a([[-1.0, 0.0], [0.5, -2.0]]) @ y,
            (0, 1),
            a([1.0, 2.0]),
            t_eval=a([0.0, 0.5, 1.0]),
        ).y
    ),
)
numpys(
    "integrate.odeint(f, y0, t)",
    lambda a: sp.integrate.odeint(lambda y, t: -y, a([1.0]), a([0.0, 1.0])),
)
numpys(
    "interpolate.interp1d, CubicSpline(x, y)(z)",
    lambda a: [
        sp.interpolate.interp1d(a([0.0, 1, 2]), a.random(3))(a([0.5, 1.5])),
        sp.interpolate.CubicSpline(a([0.0, 1, 2]), a.random(3))(a([0.5])),
    ],
)
numpys(
    "interpolate.griddata, RBFInterpolator",
    lambda a: [
        sp.interpolate.griddata(a.random(9, 2), a.random(9), a([[0.5, 0.5]]), "nearest"),
        sp.interpolate.RBFInterpolator(a.random(9, 2), a.random(9))(a([[0.5, 0.5]])),
    ],
    rtol=1e-7,
)
numpys(
    "interpolate.RegularGridInterpolator",
    lambda a: sp.interpolate.RegularGridInterpolator((a([0.0, 1]), a([0.0, 1])), a.random(2, 2))(
        a([[0.5, 0.2]])
    ),
)
numpys(
    "interpolate.splrep, splev, make_interp_spline",
    lambda a: [
        sp.interpolate.splev(a([0.5]), sp.interpolate.splrep(a([0.0, 1, 2, 3]), a.random(4))),
        sp.interpolate.make_interp_spline(a([0.0, 1, 2, 3]), a.random(4))(a([0.5])),
    ],
)
numpys("sparse.csr_array(x).toarray()", lambda a: sp.sparse.csr_array(spd(a)).toarray())
numpys(
    "csr_array(x2d) @ x, csr_array(x2d) @ x2d",
    lambda a: [sp.sparse.csr_array(spd(a)) @ a.random(3), sp.sparse.csr_array(spd(a)) @ spd(a)],
)
ours("x @ csr_array(x2d)", lambda a: a.random(3) @ sp.sparse.csr_array(spd(a)))
numpys(
    "csr_matrix((x, (y, z))), diags(x)",
    lambda a: [
        sp.sparse.csr_matrix((a([1.0, 2.0]), (a([0, 1]), a([1, 0])))).toarray(),
        sp.sparse.diags(a([1.0, 2.0])).toarray(),
    ],
)
numpys(
    "csr_array(x2d)[mask], csr_array(x2d)[x]",
    lambda a: [
        sp.sparse.csr_array(spd(a))[a([True, False, True])].toarray(),
        sp.sparse.csr_array(spd(a))[a([0, 1])].toarray(),
    ],
)
numpys(
    "sparse.linalg.spsolve(csc_matrix(x2d), x), cg(csr_array(x2d), x)",
    lambda a: [
        sp.sparse.linalg.spsolve(sp.sparse.csc_matrix(spd(a)), a.random(3)),
        sp.sparse.linalg.cg(sp.sparse.csr_array(spd(a)), a.random(3))[0],
    ],
)
numpys(
    "sparse.linalg.cg(x2d, y), gmres, aslinearoperator(x2d).matvec(y)",
    lambda a: [
        sp.sparse.linalg.cg(spd(a), a.random(3))[0],
        sp.sparse.linalg.gmres(spd(a), a.random(3))[0],
        sp.sparse.linalg.aslinearoperator(spd(a)).matvec(a.random(3)),
    ],
    rtol=1e-7,
)
numpys(
    "sparse.linalg.eigsh(x2d), svds(x2d)",
    lambda a: [
        sp.sparse.linalg.eigsh(spd(a), k=1, v0=a.random(3))[0],
        sp.sparse.linalg.svds(spd(a), k=1, v0=a.random(3))[1],
    ],
    rtol=1e-7,
)
numpys(
    "spatial.KDTree(x).query(y)",
    lambda a: list(sp.spatial.KDTree(a.random(9, 2)).query(a.random(3, 2, seed=1))),
)
numpys(
    "spatial.distance.cdist, pdist, Delaunay, ConvexHull",
    lambda a: [
        sp.spatial.distance.cdist(a.random(4, 2), a.random(3, 2)),
        sp.spatial.distance.pdist(a.random(4, 2)),
        sp.spatial.Delaunay(a.random(9, 2)).simplices,
        sp.spatial.ConvexHull(a.random(9, 2)).vertices,
    ],
)
numpys(
    "spatial.transform.Rotation.from_rotvec(x)",
    lambda a: sp.spatial.transform.Rotation.from_rotvec(a([0.1, 0.2, 0.3])).as_matrix(),
)
numpys(
    "cluster.vq.kmeans2(x2d, y)",
    lambda a: sp.cluster.vq.kmeans2(a.random(9, 2), a.random(2, 2), minit="matrix")[0],
)
numpys("io.savemat, loadmat", lambda a: written(a.random(3, 2)))


def written(array: Any) -> Any:
    import io

    file = io.BytesIO()
    sp.io.savemat(file, {"x": array})
    return sp.io.loadmat(io.BytesIO(file.getvalue()))["x"]


@scipy.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
