"""The page /docs, made from the OpenAPI description.

FastAPI's own page loads Swagger UI from a content delivery network; this one is a single answer and works offline.
"""

from __future__ import annotations

from html import escape

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem } code { background: #8882; padding: 0 .2em }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
"""

TRACK = """<h2><code>WebSocket /v1/track</code></h2>
<p>Follows one person. Every message gets one answer, in order.</p>
<table><tr><th>message</th><th>answer</th></tr>
<tr><td>binary: a JPEG, PNG or WebP frame</td><td><code>frame, time, state, pose_score, box_xyxy, joints</code>,
or <code>kind, error</code></td></tr>
<tr><td>text: <code>{"timestamp": 1.24}</code> seconds of the next frame, <code>{"point": [x, y]}</code>,
<code>{"box": [x1, y1, x2, y2]}</code>, <code>{"reset": true}</code></td><td><code>{"ok": true}</code></td></tr></table>
<p>Parameters of the address: <code>point=x,y</code>, <code>box=x1,y1,x2,y2</code>, <code>smoothing=false</code>.</p>
"""


def docs_page(openapi: dict) -> str:
    """A page of HTML for an OpenAPI document."""
    facts = openapi["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(facts['title'])}</title>",
        f"<style>{STYLE}</style><h1>{escape(facts['title'])} {escape(facts['version'])}</h1>",
        f"<p>{escape(facts.get('description', ''))}</p>",
        "<p>The same for programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in openapi["paths"].items():
        parts += [_operation(method, path, operation) for method, operation in methods.items()]
    schemas = openapi.get("components", {}).get("schemas", {})
    shown = {name: schema for name, schema in schemas.items() if "properties" in schema}
    parts += [TRACK, *(_schema(name, schema) for name, schema in shown.items())]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict) -> str:
    lines = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p><b>{escape(operation.get('summary', ''))}.</b> {escape(operation.get('description', ''))}</p>",
    ]
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        lines.append(f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in body)}</p>")
    rows = [(entry["name"], entry.get("description", "")) for entry in operation.get("parameters", [])]
    lines.append(_table("parameter", rows))
    lines.append(_table("status", [(s, r.get("description", "")) for s, r in operation["responses"].items()]))
    return "".join(lines)


def _schema(name: str, schema: dict) -> str:
    rows = [(key, value.get("description", "")) for key, value in schema["properties"].items()]
    return f"<h2>{escape(name)}</h2><p>{escape(schema.get('description', ''))}</p>{_table('field', rows)}"


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table><tr><th>{head}</th><th></th></tr>{lines}</table>"
