"""Both report pages: nothing leaves them, every text is escaped, and a browser draws them."""

import html
import json
import re
import shutil
import subprocess

import pytest

from mmjax.studies.report import write_run_report
from mmjax.studies.study_report import write_study_report

EVIL = "<script>alert('x')</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.parametrize("kind", ["run", "study"])
def test_nothing_leaves_the_file(tmp_path, kind, make_run, make_study):
    if kind == "run":
        page = write_run_report(make_run(tmp_path / "run", name="https://example.org/")).read_text()
    else:
        page = write_study_report(make_study(tmp_path)).read_text()
    assert not re.search(r"<(link|img|iframe|object|embed|audio|video|image|use)\b", page)
    assert not re.search(r"(src|srcset|xlink:href|action)\s*=|url\(|@import|@font-face", page)
    assert all(link.startswith("./") for link in re.findall(r'href="([^"]*)"', page))
    assert "default-src 'none'" in page  # and a browser would refuse anything else
    assert str(tmp_path) not in page


def test_every_text_is_escaped(tmp_path, make_run, make_study, write_lines):
    run = make_run(tmp_path / "run", name=EVIL)
    environment = {EVIL: EVIL, "command": EVIL, "data": {EVIL: EVIL}, "devices": [EVIL]}
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "config.json").write_text(json.dumps({"name": EVIL, EVIL: {"type": EVIL, "a": EVIL}}))
    write_lines(run / "metrics.jsonl", [{"step": 1, f"train/{EVIL}": 1.0, f"{EVIL}/loss": 2.0}])
    result = {"metrics": {EVIL: 1.0}, "seed": EVIL}
    details = {f"test/{EVIL}": [{EVIL: EVIL}], "a/confusion": [[1]], "a/classes": [EVIL]}
    (run / "result.json").write_text(json.dumps(result | {"details": details}))
    assert write_run_report(run).read_text().count("<script") == 1  # our own

    folder = make_study(tmp_path / "study", name=EVIL, title=EVIL, command=EVIL, machine=EVIL)
    study = json.loads((folder / "results.json").read_text())
    study["rows"][0] |= {"name": EVIL, "overrides": {EVIL: EVIL}, "runs": [EVIL, "javascript:x"]}
    (folder / "results.json").write_text(json.dumps(study))
    page = write_study_report(folder).read_text()
    assert page.count("<script") == 1
    assert 'href="javascript' not in page


@pytest.mark.skipif(CHROMIUM is None, reason="No chromium was found, so no browser drew the page.")
@pytest.mark.parametrize("kind", ["run", "study"])
def test_browser_draws_it_on_a_phone(tmp_path, kind, make_run, make_study):
    """At 380 px nothing overflows, no script fails, nothing is fetched, and tables sort."""
    if kind == "run":
        report = write_run_report(make_run(tmp_path / "run", name="a_long_name_" * 9))
    else:
        report = write_study_report(make_study(tmp_path))
    listen = (
        "<script>window.faults = [];"
        "for (const kind of ['error', 'securitypolicyviolation'])"
        " addEventListener(kind, (e) => faults.push(e.message || e.blockedURI), true);</script>"
    )
    page = report.read_text().replace("<head>", "<head>" + listen)
    probe = """<script>addEventListener("load", () => {
      const frame = document.querySelector("iframe").contentWindow, page = frame.document;
      const column = () => [...page.querySelectorAll(".sortable tbody tr")].map(
        (row) => row.cells[1].dataset.value).slice(0, 2).join(" ");
      const head = page.querySelectorAll(".sortable th")[1];
      head.click(); const down = column(); head.click(); const up = column();
      const width = page.documentElement.scrollWidth;
      document.body.textContent = JSON.stringify({width, faults: frame.faults, down, up});
    });</script>"""
    # A window cannot be 380 px wide, a frame can.
    frame = (
        f'<iframe style="width:380px;height:900px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    )
    (tmp_path / "probe.html").write_text(f"<!doctype html><body>{frame}{probe}</body>")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        (tmp_path / "probe.html").as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    seen = json.loads(html.unescape(re.search(r"\{.*\}", dom)[0]))
    assert seen["faults"] == []
    assert seen["width"] <= 380
    ordered = {"run": ("0.75 0.5", "0.5 0.75"), "study": ("0.755 0.655", "0.655 0.755")}[kind]
    assert (seen["down"], seen["up"]) == ordered
