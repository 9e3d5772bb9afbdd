//! A report as one HTML file: its markdown with the pictures it refers to inside, so that it can be sent to anybody.
//!
//! The page has no script, loads nothing, follows the reader's choice of a light or dark page, and prints in black on
//! white. Pictures have a white ground of their own.

use super::Figure;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// How the page looks.
const STYLE: &str = include_str!("page.css");

/// The page of a report. An image of the markdown whose address is `figures/NAME.svg` becomes the figure called NAME;
/// tables are those of GitHub.
pub fn html(title: &str, markdown: &str, figures: &[Figure]) -> String {
    let mut body = String::new();
    html::push_html(&mut body, inlined(markdown, figures).into_iter());
    let mut escaped = String::new();
    html::push_html(&mut escaped, std::iter::once(Event::Text(CowStr::from(title))));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{escaped}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// The events of the markdown, references to figures replaced by these.
fn inlined<'a>(markdown: &'a str, figures: &'a [Figure]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    let mut inside = false; // an image that was replaced, whose caption follows
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match &event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                let name = dest_url.strip_prefix("figures/").and_then(|name| name.strip_suffix(".svg"));
                if let Some(figure) = name.and_then(|name| figures.iter().find(|f| f.name == name)) {
                    inside = true;
                    events.push(Event::InlineHtml(CowStr::from(figure.svg.trim_end())));
                    continue;
                }
            }
            Event::End(TagEnd::Image) if inside => {
                inside = false;
                continue;
            }
            _ if inside => continue,
            _ => {}
        }
        events.push(event);
    }
    events
}
